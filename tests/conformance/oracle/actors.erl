%% The cases of signals and of GenServer.
-module(actors).
-export([cases/0]).
-import(stage, [called/1, called/2, run/2, returns/2, seen/1, crash/1, down/2, dead/0, alive/1, is_free/1, ordered/1, until/1,
                mailbox/0, journal/0, stop/1, puppet/1, pair/1, note/2, why/1]).

cases() -> signals() ++ servers().

signals() ->
    [{"S01.plain", fun() ->
         Plain = puppet(#{}),
         exit(Plain, normal),
         [alive(Plain) | seen(Plain)]
     end},
     {"S01.trapping", fun() ->
         Trapping = puppet(#{traps => true}),
         exit(Trapping, normal),
         [alive(Trapping) | seen(Trapping)]
     end},
     {"S02", fun() ->
         {Watcher, Victim} = pair(#{traps => true}),
         [why(down(Victim, fun() -> exit(Victim, kill) end)) | seen(Watcher)]
     end},
     {"S03", fun() ->
         {Watcher, Victim} = pair(#{}),
         down(Victim, fun() -> Victim ! {returns, fun(_) -> exit(kill) end} end),
         [alive(Watcher) | seen(Watcher)]
     end},
     {"S04", fun() ->
         Ring = [A, B, C] = [puppet(#{}) || _ <- [a, b, c]],
         [run(P, fun() -> link(Q) end) || {P, Q} <- [{A, B}, {B, C}, {C, A}]],
         Monitors = [monitor(process, P) || P <- Ring],
         crash(A),
         [receive {'DOWN', M, process, _, Why} -> why(Why) end || M <- Monitors]
     end},
     {"S05", fun() ->
         {Leaver, Survivor} = {puppet(#{}), puppet(#{})},
         run(Survivor, fun() -> link(Leaver) end),
         gen_server:stop(Leaver),
         [alive(Survivor) | seen(Survivor)]
     end},
     {"S06.twice", fun() ->
         {Watcher, Peer} = pair(#{}),
         run(Watcher, fun() -> link(Peer) end),
         crash(Peer),
         seen(Watcher)
     end},
     {"S06.unlinked", fun() ->
         {Watcher, Peer} = pair(#{}),
         run(Watcher, fun() -> unlink(Peer) end),
         crash(Peer),
         seen(Watcher)
     end},
     {"S06.queued", fun() ->
         {Watcher, Peer} = pair(#{}),
         run(Watcher, fun() ->
             down(Peer, fun() -> exit(Peer, kill) end),
             unlink(Peer),
             receive {'EXIT', Peer, _} -> ok after 0 -> ok end
         end),
         seen(Watcher)
     end},
     {"S07.trapping", fun() ->
         Trapping = puppet(#{traps => true}),
         run(Trapping, fun() -> link(dead()) end),
         seen(Trapping)
     end},
     {"S07.plain", fun() ->
         Plain = puppet(#{}),
         [why(down(Plain, fun() -> Plain ! {returns, fun(_) -> link(dead()), timer:sleep(infinity) end} end))]
     end},
     {"S08", fun() ->
         Watcher = puppet(#{}),
         run(Watcher, fun() -> monitor(process, dead()) end),
         until(fun() -> seen(Watcher) =/= [] end),
         seen(Watcher)
     end},
     {"S09", fun() ->
         Watcher = puppet(#{}),
         Target = puppet(#{}),
         run(Watcher, fun() ->
             [_, Gone, Flushed, _] = [monitor(process, Target) || _ <- [1, 2, 3, 4]],
             demonitor(Gone),
             down(Target, fun() -> exit(Target, kill) end),
             demonitor(Flushed, [flush])
         end),
         seen(Watcher)
     end},
     {"S10", fun() ->
         Watcher = puppet(#{}),
         Sender = puppet(#{}),
         run(Watcher, fun() -> monitor(process, Sender) end),
         SayAndEnd = fun(_, S) -> Watcher ! last_words, {stop, normal, ok, S} end,
         down(Sender, fun() -> returns(Sender, SayAndEnd) end),
         until(fun() -> length(seen(Watcher)) > 1 end),
         seen(Watcher)
     end},
     {"S11", fun() ->
         [1000 = length([free || _ <- lists:seq(1, 1000), name_is_free_at_the_end()])]
     end},
     {"S12", fun() ->
         Target = puppet(#{}),
         Senders = [spawn_monitor(fun() -> [Target ! {Who, N} || N <- lists:seq(1, 50)] end) || Who <- [first, second]],
         [receive {'DOWN', M, process, P, _} -> ok end || {P, M} <- Senders],
         Got = gen_server:call(Target, seen),
         [{Who, ordered([N || {W, N} <- Got, W =:= Who])} || Who <- [first, second]]
     end}].

servers() ->
    [{"G03", fun() ->
         Result = gen_server:start({local, ignoring}, stage, {puppet, #{init => fun() -> ignore end}}, []),
         [Result, is_free(ignoring)]
     end},
     {"G04", fun() ->
         Tries = [{gen_server:start({local, stopping}, stage, {puppet, #{init => fun() -> {stop, no} end}}, []),
                   is_free(stopping)} || _ <- lists:seq(1, 100)],
         [length([1 || {{error, no}, free} <- Tries])]
     end},
     {"G09", fun() ->
         Server = puppet(#{}),
         Keep = fun(From, S) -> {noreply, S#{from => From}} end,
         Late = try gen_server:call(Server, {returns, Keep}, 20) catch exit:{timeout, _} -> timeout end,
         Own = returns(Server, fun(_, #{from := From} = S) -> gen_server:reply(From, late), {reply, own, S} end),
         [Late, alive(Server), Own | [stray || {_, late} <- mailbox()]]
     end},
     {"G10", fun() -> [called(dead()), called(nobody_has_this_name)] end},
     {"G11", fun() ->
         Server = puppet(#{}),
         Me = self(),
         Ask = fun() -> Me ! {answer, called(Server, fun(_, _) -> timer:sleep(infinity) end)} end,
         [spawn(Ask) || _ <- [1, 2, 3]],
         until(fun() -> {message_queue_len, 2} =:= process_info(Server, message_queue_len) end),
         exit(Server, kill),
         [receive {answer, Why} -> Why end || _ <- [1, 2, 3]]
     end},
     {"G12", fun() ->
         Server = puppet(#{}),
         [run(Server, fun() -> called(self()) end), alive(Server)]
     end},
     {"G13", fun() ->
         Me = self(),
         Server = puppet(#{terminate => fun() -> Me ! terminate end}),
         link(Server),
         Tag = make_ref(),
         Server ! {'$gen_call', {Me, Tag}, {returns, fun(_, S) -> {stop, normal, bye, S} end}},
         [receive terminate -> terminate; {Tag, bye} -> reply; {'EXIT', Server, normal} -> exit end || _ <- [1, 2, 3]]
     end},
     {"G14", fun() -> [called(puppet(#{}), fun(_, S) -> {stop, {shutdown, enough}, S} end)] end},
     {"G15", fun() ->
         Rubbish = fun(_) -> rubbish end,
         [called(puppet(#{}), fun(_, _) -> rubbish end),
          begin P = puppet(#{}), why(down(P, fun() -> gen_server:cast(P, {returns, Rubbish}) end)) end,
          begin Q = puppet(#{}), why(down(Q, fun() -> Q ! {returns, Rubbish} end)) end]
     end},
     {"G16", fun() ->
         Server = puppet(#{}),
         try gen_server:call(Server, {returns, fun(_, _) -> error(boom) end})
         catch exit:{{boom, [{_, _, _, _} | _]}, _} -> [crash, stack]
         end
     end},
     {"G17", fun() -> [gen_server:cast(dead(), x), gen_server:cast(nobody_has_this_name, x)] end},
     {"G25.init", fun() ->
         First = first(),
         seen(puppet(#{init => fun() -> self() ! queued, {continue, First} end}))
     end},
     {"G25.call", fun() ->
         P = puppet(#{}),
         returns(P, fun(_, S) -> self() ! queued, {reply, ok, S, {continue, first()}} end),
         seen(P)
     end},
     {"G25.noreply", fun() ->
         P = puppet(#{}),
         returns(P, fun(From, S) -> self() ! queued, gen_server:reply(From, ok), {noreply, S, {continue, first()}} end),
         seen(P)
     end},
     {"G25.cast", fun() ->
         P = puppet(#{}),
         gen_server:cast(P, {returns, fun(S) -> self() ! queued, {noreply, S, {continue, first()}} end}),
         run(P, fun() -> handled end),
         seen(P)
     end},
     {"G25.info", fun() ->
         P = puppet(#{}),
         P ! {returns, fun(S) -> self() ! queued, {noreply, S, {continue, first()}} end},
         run(P, fun() -> handled end),
         seen(P)
     end},
     {"G39.parent_trapping", fun() -> parent_ends(#{traps => true}) end},
     {"G39.parent_plain", fun() -> parent_ends(#{}) end},
     {"G39.signal_plain", fun() ->
         P = puppet(#{id => child, journal => self()}),
         journal(),
         [why(down(P, fun() -> exit(P, boom) end)) | journal()]
     end},
     {"G40", fun() ->
         P = puppet(#{traps => true}),
         exit(P, {shutdown, leave}),
         [alive(P) | seen(P)]
     end},
     {"G41", fun() ->
         P = puppet(#{value => 7}),
         ok = sys:suspend(P),
         #{value := Before} = sys:get_state(P),
         #{value := After} = sys:replace_state(P, fun(#{value := V} = S) -> S#{value => V + 1} end),
         Failed = try sys:replace_state(P, fun(_) -> error(no) end) catch _:_ -> failed end,
         ok = sys:resume(P),
         #{value := Kept} = sys:get_state(P),
         [Before, After, Failed, Kept]
     end},
     {"G42", fun() ->
         P = puppet(#{}),
         ok = sys:suspend(P),
         [P ! {number, N} || N <- [0, 1, 2, 3, 4]],
         {message_queue_len, Held} = process_info(P, message_queue_len),
         ok = sys:resume(P),
         [{held, Held} | [N || {number, N} <- gen_server:call(P, seen)]]
     end}].

%% --- parts of cases ----------------------------------------------------------------------------------------------------

first() -> fun(S) -> {noreply, note(first, S), {continue, fun(T) -> {noreply, note(second, T)} end}} end.

parent_ends(Options) ->
    Me = self(),
    {Parent, Monitor} = spawn_monitor(fun() ->
        {ok, Child} = gen_server:start_link(stage, {puppet, Options#{id => child, journal => Me}}, []),
        Me ! {child, Child},
        receive go -> exit(boom) end
    end),
    Child = receive {child, C} -> C end,
    journal(),
    Ended = monitor(process, Child),
    Parent ! go,
    receive {'DOWN', Monitor, process, Parent, boom} -> ok end,
    receive {'DOWN', Ended, process, Child, Why} -> [why(Why) | journal()] end.

name_is_free_at_the_end() ->
    {ok, P} = gen_server:start_link({local, taken}, stage, {puppet, #{}}, []),
    down(P, fun() -> exit(P, kill) end),
    receive {'EXIT', P, _} -> ok end,
    whereis(taken) =:= undefined.
