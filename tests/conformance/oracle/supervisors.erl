%% The cases of supervisors.
-module(supervisors).
-export([cases/0]).
-import(stage, [returns/2, down/2, alive/1, same/2, journal/0, start_sup/2, sup/2, stop/1, child/3, trapping/1, trapping/3,
                below/3, fails/1, state/2, watch/2, reasons/1, leave/3, settled/3, verdict/1, why/1]).

cases() -> starts_and_stops() ++ by_hand() ++ strategies() ++ intensity() ++ trees() ++ significant().

starts_and_stops() ->
    [{"V12", fun() ->
         Sup = sup(#{}, [trapping(Id) || Id <- [a, b, c, d]]),
         stop(Sup),
         journal()
     end},
     {"V13", fun() ->
         Specs = [trapping(a), trapping(b), trapping(c, #{init => fun() -> error(boom) end}, #{})],
         {error, {shutdown, {failed_to_start_child, Who, Why}}} = start_sup(#{}, Specs),
         journal() ++ [{error, {Who, why(Why)}}]
     end},
     {"V17", fun() ->
         Slow = #{terminate => fun() -> timer:sleep(infinity) end},
         Sup = sup(#{}, [trapping(good, #{}, #{shutdown => 1000}), trapping(sleeping, Slow, #{shutdown => 1000})]),
         Monitors = watch(Sup, [good, sleeping]),
         stop(Sup),
         reasons(Monitors)
     end},
     {"V18", fun() ->
         Sup = sup(#{}, [trapping(a, #{}, #{shutdown => brutal_kill})]),
         journal(),
         Monitors = watch(Sup, [a]),
         stop(Sup),
         reasons(Monitors) ++ journal()
     end},
     {"V23.stranger", fun() ->
         Sup = sup(#{}, []),
         [begin
              {P, M} = spawn_monitor(fun() -> exit(Sup, Why), supervisor:which_children(Sup) end),
              receive {'DOWN', M, process, P, _} -> alive(Sup) end
          end || Why <- [normal, shutdown, boom]]
     end},
     {"V23.parent", fun() ->
         Sup = sup(#{}, [child(a, #{}, #{})]),
         Monitors = watch(Sup, [a]),
         [why(down(Sup, fun() -> exit(Sup, normal) end)) | reasons(Monitors)]
     end},
     {"V24", fun() ->
         Sup = sup(#{}, [child(a, #{}, #{}), trapping(b)]),
         Monitors = watch(Sup, [a, b]),
         exit(Sup, kill),
         reasons(Monitors)
     end}].

by_hand() ->
    [{"V25", fun() ->
         Sup = sup(#{}, []),
         {ok, P} = supervisor:start_child(Sup, child(a, #{}, #{})),
         {error, {already_started, P}} = supervisor:start_child(Sup, child(a, #{}, #{})),
         ok = supervisor:terminate_child(Sup, a),
         {error, Present} = supervisor:start_child(Sup, child(a, #{}, #{})),
         [already_started, Present]
     end},
     {"V26", fun() ->
         Sup = sup(#{}, [trapping(a)]),
         Monitors = watch(Sup, [a]),
         First = supervisor:terminate_child(Sup, a),
         Again = supervisor:terminate_child(Sup, a),
         {error, Unknown} = supervisor:terminate_child(Sup, unknown),
         undefined = state(Sup, a),
         stop(Sup),
         Nobody = try supervisor:terminate_child(Sup, a) catch exit:{Why, _} -> why(Why) end,
         [First, Again, Unknown, Nobody | reasons(Monitors)]
     end},
     {"V27", fun() ->
         Sup = sup(#{}, [child(a, #{}, #{})]),
         Old = state(Sup, a),
         {error, Restart} = supervisor:restart_child(Sup, a),
         {error, Delete} = supervisor:delete_child(Sup, a),
         ok = supervisor:terminate_child(Sup, a),
         {ok, New} = supervisor:restart_child(Sup, a),
         ok = supervisor:terminate_child(Sup, a),
         ok = supervisor:delete_child(Sup, a),
         {error, Gone} = supervisor:restart_child(Sup, a),
         [Restart, Delete, same(Old, New), Gone]
     end}].

strategies() ->
    [{"V32", fun() -> after_each_end(permanent) end},
     {"V33", fun() -> after_each_end(transient) end},
     {"V34", fun() -> after_each_end(temporary) end},
     {"V36", fun() -> one_ends(one_for_one) end},
     {"V37", fun() -> one_ends(one_for_all) end},
     {"V38", fun() -> one_ends(rest_for_one) end},
     {"V41", fun() -> second_fails(one_for_all, []) end},
     {"V42", fun() -> second_fails(rest_for_one, [trapping(c)]) end}].

%% Section 2 of the table. The supervisor's clock has whole seconds.
intensity() ->
    [{"V43.zero", fun() -> endures(0, 5, [a]) end},
     {"V43.default", fun() -> endures(1, 5, [a, a]) end},
     {"V43.three", fun() -> endures(3, 60, [a, a, a, a]) end},
     {"V43.shared", fun() -> endures(2, 5, [a, a, b]) end},
     {"V43.one_for_all", fun() -> endures(#{strategy => one_for_all, intensity => 1, period => 5}, [a]) end},
     {"V43.clean_ends", fun() ->
         Sup = sup(#{intensity => 1, period => 5}, [child(a, #{}, #{})]),
         [begin
              Old = state(Sup, a),
              catch returns(Old, fun(_, S) -> {stop, normal, ok, S} end),
              verdict(settled(Sup, a, Old))
          end || _ <- [1, 2]]
     end},
     {"V43.by_hand", fun() ->
         Sup = sup(#{intensity => 0, period => 5}, [child(a, #{}, #{})]),
         [begin
              ok = supervisor:terminate_child(Sup, a),
              {ok, _} = supervisor:restart_child(Sup, a)
          end || _ <- [1, 2, 3]],
         [alive(Sup)]
     end},
     {"V43.failed_inits_3", fun() -> failed_inits(3) end},
     {"V43.failed_inits_2", fun() -> failed_inits(2) end},
     {"V43.inside", fun() -> at([{50, 0}, {1850, 1}]) end},
     {"V43.outside", fun() -> at([{850, 0}, {2050, 2}]) end},
     {"V43.for_ever", fun() -> at([{100, 0}, {2200, 2}, {4300, 4}]) end}].

trees() ->
    [{"V47.transient", fun() -> sub_supervisor_at_its_limit(transient) end},
     {"V47.permanent", fun() -> sub_supervisor_at_its_limit(permanent) end}].

significant() ->
    [{"V50.normal", fun() -> significant_ends(normal) end},
     {"V50.shutdown", fun() -> significant_ends(shutdown) end},
     {"V50.crash", fun() -> significant_ends(boom) end},
     {"V50.by_hand", fun() ->
         Sup = sup(#{auto_shutdown => any_significant}, [child(a, #{}, #{restart => temporary, significant => true})]),
         ok = supervisor:terminate_child(Sup, a),
         [alive(Sup)]
     end},
     {"V51", fun() ->
         Sup = sup(#{auto_shutdown => any_significant}, [child(a, #{}, #{restart => transient, significant => true})]),
         Old = state(Sup, a),
         exit(Old, kill),
         {running, New} = settled(Sup, a, Old),
         [same(Old, New), verdict(leave(Sup, a, normal))]
     end},
     {"V52", fun() ->
         Specs = [child(a, #{}, #{restart => transient, significant => true}),
                  child(b, #{}, #{restart => temporary, significant => true}), child(c, #{}, #{})],
         Sup = sup(#{auto_shutdown => all_significant}, Specs),
         stopped = leave(Sup, a, normal),
         [alive(Sup), verdict(leave(Sup, b, normal))]
     end},
     {"V53.permanent", fun() ->
         [refused(#{auto_shutdown => any_significant}, #{restart => permanent, significant => true})]
     end},
     {"V53.never", fun() -> [refused(#{}, #{restart => transient, significant => true})] end},
     {"V54.one_for_all", fun() -> bystander(one_for_all) end},
     {"V54.rest_for_one", fun() -> bystander(rest_for_one) end},
     {"V55.significant", fun() -> climbs(true) end},
     {"V55.ordinary", fun() -> climbs(false) end}].

%% --- parts of cases ----------------------------------------------------------------------------------------------------

after_each_end(Restart) ->
    [begin
         Sup = sup(#{intensity => 10}, [child(a, #{}, #{restart => Restart})]),
         Old = state(Sup, a),
         case leave(Sup, a, Why) of
             {running, New} -> same(Old, New);
             Other -> Other
         end
     end || Why <- [normal, shutdown, {shutdown, x}, boom]].

one_ends(Strategy) ->
    Ids = [a, b, c],
    Sup = sup(#{strategy => Strategy, intensity => 2}, [trapping(Id) || Id <- Ids]),
    Before = [state(Sup, Id) || Id <- Ids],
    journal(),
    Old = state(Sup, b),
    exit(Old, kill),
    settled(Sup, b, Old),
    After = [state(Sup, Id) || Id <- Ids],
    journal() ++ lists:zipwith3(fun(Id, Was, Is) -> {Id, same(Was, Is)} end, Ids, Before, After).

second_fails(Strategy, Further) ->
    Specs = [trapping(a), trapping(b, #{init => fails([1])}, #{}) | Further],
    Sup = sup(#{strategy => Strategy, intensity => 2}, Specs),
    journal(),
    exit(state(Sup, a), kill),
    [receive {journal, Word} -> Word end || _ <- lists:seq(1, 6)] ++ journal().

endures(Intensity, Period, Crashes) -> endures(#{intensity => Intensity, period => Period}, Crashes).

endures(Flags, Crashes) ->
    Sup = sup(Flags, [child(Id, #{}, #{}) || Id <- [a, b, c]]),
    [begin
         Old = state(Sup, Id),
         exit(Old, kill),
         verdict(settled(Sup, Id, Old))
     end || Id <- Crashes].

failed_inits(Intensity) ->
    Sup = sup(#{intensity => Intensity, period => 5}, [child(a, #{init => fails([1, 2])}, #{})]),
    Old = state(Sup, a),
    exit(Old, kill),
    [verdict(settled(Sup, a, Old))].

%% Crashes at given milliseconds after a full second, each of which must fall into the given whole second, else all is done again.
at(Moments) -> at(Moments, 5).

at(Moments, Tries) when Tries > 0 ->
    Sup = sup(#{intensity => 1, period => 1}, [child(a, #{}, #{})]),
    Base = erlang:monotonic_time(second) + 1,
    Crash = fun({Ms, Second}) ->
        timer:sleep(max(0, Base * 1000 + Ms - erlang:monotonic_time(millisecond))),
        Old = state(Sup, a),
        exit(Old, kill),
        Verdict = verdict(settled(Sup, a, Old)),
        {Verdict, erlang:monotonic_time(second) =:= Base + Second}
    end,
    Seen = [Crash(Moment) || Moment <- Moments],
    case lists:all(fun({_, InTime}) -> InTime end, Seen) of
        true -> [Verdict || {Verdict, _} <- Seen];
        false -> at(Moments, Tries - 1)
    end.

sub_supervisor_at_its_limit(Restart) ->
    Below = below(#{intensity => 0}, [child(worker, #{}, #{})], #{restart => Restart}),
    Top = sup(#{}, [Below]),
    Old = state(Top, below),
    Worker = state(Old, worker),
    Why = why(down(Old, fun() -> exit(Worker, kill) end)),
    case settled(Top, below, Old) of
        {running, New} -> [Why, same(Old, New)];
        Other -> [Why, Other]
    end.

significant_ends(Why) ->
    Specs = [child(a, #{}, #{restart => temporary, significant => true}), child(b, #{}, #{})],
    Sup = sup(#{auto_shutdown => any_significant}, Specs),
    [verdict(leave(Sup, a, Why))].

refused(Flags, Extra) ->
    case start_sup(Flags, [child(a, #{}, Extra)]) of
        {error, {start_spec, _}} -> refused;
        {error, {supervisor_data, _}} -> refused;
        Other -> Other
    end.

bystander(Strategy) ->
    Specs = [child(crashes, #{}, #{}), child(bystander, #{}, #{restart => temporary, significant => true}),
             child(other, #{}, #{restart => transient, significant => true})],
    Sup = sup(#{strategy => Strategy, auto_shutdown => any_significant}, Specs),
    Old = state(Sup, crashes),
    exit(Old, kill),
    settled(Sup, crashes, Old),
    [alive(Sup) | lists:sort([Id || {Id, _, _, _} <- supervisor:which_children(Sup)])].

climbs(Significant) ->
    Leaf = child(leaf, #{}, #{restart => transient, significant => true}),
    Below = below(#{auto_shutdown => any_significant}, [Leaf], #{restart => transient, significant => Significant}),
    Top = sup(#{auto_shutdown => any_significant}, [Below]),
    Old = state(Top, below),
    Stop = fun(_, S) -> {stop, normal, ok, S} end,
    Why = why(down(Old, fun() -> catch returns(state(Old, leaf), Stop) end)),
    [Why, verdict(settled(Top, below, Old))].
