%% What the cases are played with: puppets that do as they are told, supervisors of them, and ways to ask what became of them.
-module(stage).
-behaviour(gen_server).
-export([called/1, called/2, run/2, returns/2, seen/1, crash/1, down/2, dead/0, alive/1, is_free/1, same/2, ordered/1, until/1,
         mailbox/0, journal/0, start_sup/2, sup/2, stop/1, child/3, trapping/1, trapping/3, below/3, fails/1, state/2,
         watch/2, reasons/1, leave/3, settled/3, verdict/1, puppet/1, pair/1, note/2, why/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2]).

%% A reason, without what differs from run to run.
why({Reason, {gen_server, call, _}}) -> why(Reason);
why({shutdown, Detail}) when is_atom(Detail) -> {shutdown, Detail};
why({bad_return_value, _}) -> bad_return;
why({noproc, _}) -> noproc;
why({boom, _}) -> crash;
why(boom) -> crash;
why(Reason) when is_atom(Reason) -> Reason.

%% --- asking --------------------------------------------------------------------------------------------------------------

called(Server) -> called(Server, fun(_, S) -> {reply, ok, S} end).

called(Server, F) ->
    try gen_server:call(Server, {returns, F}) catch exit:{Why, _} -> why(Why) end.

run(P, F) -> gen_server:call(P, {run, F}).

returns(P, F) -> gen_server:call(P, {returns, F}).

seen(P) -> [what(Message) || Message <- gen_server:call(P, seen)].

what({'EXIT', _, Why}) -> {exit, why(Why)};
what({'DOWN', _, process, _, Why}) -> {down, why(Why)};
what(Message) -> Message.

crash(P) -> called(P, fun(_, _) -> error(boom) end).

%% Why P ends of what Act does.
down(P, Act) ->
    Monitor = monitor(process, P),
    Act(),
    receive {'DOWN', Monitor, process, P, Why} -> Why end.

dead() ->
    {P, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, P, _} -> P end.

alive(P) -> case is_process_alive(P) of true -> lives; false -> dead end.

is_free(Name) -> case whereis(Name) of undefined -> free; _ -> taken end.

same(P, P) -> same;
same(_, _) -> new.

ordered(Numbers) -> case Numbers =:= lists:seq(1, 50) of true -> in_order; false -> mixed_up end.

until(Happened) ->
    case Happened() of
        true -> ok;
        false -> timer:sleep(1), until(Happened)
    end.

mailbox() -> receive Message -> [Message | mailbox()] after 0 -> [] end.

journal() -> receive {journal, Word} -> [Word | journal()] after 0 -> [] end.

%% --- supervisors -------------------------------------------------------------------------------------------------------

start_sup(Flags, Specs) -> supervisor:start_link(?MODULE, {sup, Flags, Specs}).

sup(Flags, Specs) ->
    {ok, Sup} = start_sup(Flags, Specs),
    Sup.

stop(Sup) -> down(Sup, fun() -> exit(Sup, shutdown) end).

child(Id, Options, Extra) ->
    maps:merge(#{id => Id, start => {gen_server, start_link, [?MODULE, {puppet, Options}, []]}}, Extra).

trapping(Id) -> trapping(Id, #{}, #{}).

%% A child that keeps the caller's journal.
trapping(Id, Options, Extra) -> child(Id, Options#{id => Id, journal => self(), traps => true}, Extra).

below(Flags, Specs, Extra) ->
    maps:merge(#{id => below, type => supervisor,
                 start => {supervisor, start_link, [?MODULE, {sup, Flags, Specs}]}}, Extra).

fails(Rounds) ->
    Counter = counters:new(1, []),
    fun() ->
        Round = counters:get(Counter, 1),
        counters:add(Counter, 1, 1),
        case lists:member(Round, Rounds) of true -> error(boom); false -> ok end
    end.

state(Sup, Id) ->
    case lists:keyfind(Id, 1, supervisor:which_children(Sup)) of
        {Id, State, _, _} -> State;
        false -> gone
    end.

watch(Sup, Ids) -> [{Id, monitor(process, state(Sup, Id))} || Id <- Ids].

reasons(Monitors) -> [receive {'DOWN', M, process, _, Why} -> {Id, why(Why)} end || {Id, M} <- Monitors].

leave(Sup, Id, Why) ->
    Old = state(Sup, Id),
    case Why of
        boom -> crash(Old);
        _ -> catch returns(Old, fun(_, S) -> {stop, Why, ok, S} end)
    end,
    settled(Sup, Id, Old).

%% What has become of a child that has ended, once the supervisor, which is linked to us, has drawn the consequences.
settled(Sup, Id, Old) ->
    receive
        {'EXIT', Sup, Why} -> {ended, why(Why)}
    after 2 ->
        try state(Sup, Id) of
            New when is_pid(New), New =/= Old -> {running, New};
            undefined -> stopped;
            gone -> gone;
            _ -> settled(Sup, Id, Old)
        catch exit:_ ->
            settled(Sup, Id, Old)
        end
    end.

verdict({ended, Why}) -> Why;
verdict(_) -> lives.

%% --- the puppet ----------------------------------------------------------------------------------------------------------

puppet(Options) ->
    {ok, P} = gen_server:start(?MODULE, {puppet, Options}, []),
    P.

%% A puppet that watches, and one that it is linked to.
pair(Options) ->
    Watcher = puppet(#{traps => true}),
    Peer = puppet(Options),
    run(Watcher, fun() -> link(Peer) end),
    {Watcher, Peer}.

init({sup, Flags, Specs}) -> {ok, {Flags, Specs}};
init({puppet, Options}) ->
    process_flag(trap_exit, maps:get(traps, Options, false)),
    write(init, Options),
    State = Options#{seen => []},
    case (maps:get(init, Options, fun() -> ok end))() of
        ignore -> ignore;
        {stop, Why} -> {stop, Why};
        {continue, F} -> {ok, State, {continue, F}};
        _ -> {ok, State}
    end.

handle_call({run, F}, _From, S) -> {reply, F(), S};
handle_call({returns, F}, From, S) -> F(From, S);
handle_call(seen, _From, #{seen := Seen} = S) -> {reply, lists:reverse(Seen), S}.

handle_cast({returns, F}, S) -> F(S).

handle_info({returns, F}, S) -> F(S);
handle_info(Message, S) -> {noreply, note(Message, S)}.

handle_continue(F, S) -> F(S).

terminate(_Why, S) ->
    write(terminate, S),
    (maps:get(terminate, S, fun() -> ok end))().

note(Message, #{seen := Seen} = S) -> S#{seen => [Message | Seen]}.

write(What, #{id := Id, journal := Journal}) -> Journal ! {journal, {What, Id}};
write(_, _) -> ok.
