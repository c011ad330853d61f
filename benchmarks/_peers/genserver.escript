#!/usr/bin/env escript
%%! +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none
%% The same measures on Erlang/OTP's own gen_server and supervisor, one scheduler, speaking the protocol of serving.py.
-module(genserver).
-mode(compile).
-export([main/1, init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, start_child/1]).

main(_) ->
    logger:set_primary_config(level, none),
    io:format("ready ~s call,call_100,cast,restart,idle~n", [erlang:system_info(otp_release)]),
    loop().

loop() ->
    case io:get_line("") of
        eof -> ok;
        {error, _} -> ok;
        Line ->
            [Name, Count] = string:lexemes(string:trim(Line), " "),
            io:format("~s~n", [measure(Name, list_to_integer(Count))]),
            loop()
    end.

measure("call", N) ->
    {ok, Pid} = gen_server:start(?MODULE, counter, []),
    Told = timed(N, fun() -> calls(Pid, N) end),
    gen_server:stop(Pid),
    Told;
measure("call_100", N) ->
    {ok, Pid} = gen_server:start(?MODULE, counter, []),
    Told = timed(N, fun() ->
        Clients = [spawn_monitor(fun() -> calls(Pid, N div 100) end) || _ <- lists:seq(1, 100)],
        [receive {'DOWN', Ref, process, _, normal} -> ok end || {_, Ref} <- Clients]
    end),
    gen_server:stop(Pid),
    Told;
measure("cast", N) ->
    {ok, Pid} = gen_server:start(?MODULE, counter, []),
    Told = timed(N, fun() -> bursts(Pid, N div 64), gen_server:call(Pid, inc) end),
    gen_server:stop(Pid),
    Told;
measure("restart", N) ->
    %% a supervisor scans the restarts of its whole period at each one, so none lives for more than 200 of them
    timed(N, fun() -> [crashed_supervisor(200) || _ <- lists:seq(1, N div 200)] end);
measure("idle", N) ->
    erlang:garbage_collect(),
    Before = erlang:memory(total),
    {Cpu, Wall} = clocks(),
    Pids = [begin {ok, Pid} = gen_server:start(?MODULE, counter, []), Pid end || _ <- lists:seq(1, N)],
    {Cpu1, Wall1} = clocks(),
    Bytes = (erlang:memory(total) - Before) / N,
    [exit(Pid, kill) || Pid <- Pids],
    io_lib:format("bytes=~w start_cpu_s=~w start_s=~w", [Bytes, (Cpu1 - Cpu) / 1000, (Wall1 - Wall) / 1.0e9]).

calls(_, 0) -> ok;
calls(Pid, N) -> gen_server:call(Pid, inc, 5000), calls(Pid, N - 1).

bursts(_, 0) -> ok;
bursts(Pid, N) -> burst(Pid, 64), erlang:yield(), bursts(Pid, N - 1).

burst(_, 0) -> ok;
burst(Pid, N) -> gen_server:cast(Pid, inc), burst(Pid, N - 1).

crashes(_, 0) -> ok;
crashes(Pid, N) ->
    gen_server:cast(Pid, crash),
    receive {up, New} -> gen_server:call(New, inc), crashes(New, N - 1) end.

crashed_supervisor(N) ->
    {ok, Sup} = supervisor:start_link(?MODULE, {supervisor, self()}),
    crashes(receive {up, Pid} -> Pid end, N),
    unlink(Sup),
    exit(Sup, kill).

timed(N, Work) ->
    {Cpu, Wall} = clocks(),
    Work(),
    {Cpu1, Wall1} = clocks(),
    io_lib:format("per_cpu_s=~w per_s=~w", [N * 1000 / max(Cpu1 - Cpu, 1), N * 1.0e9 / (Wall1 - Wall)]).

clocks() ->
    {Cpu, _} = erlang:statistics(runtime),
    {Cpu, erlang:monotonic_time(nanosecond)}.

start_child(Client) -> gen_server:start_link(?MODULE, {told, Client}, []).

init(counter) -> {ok, 0};
init({told, Client}) -> Client ! {up, self()}, {ok, 0};
init({supervisor, Client}) ->
    Child = #{id => counter, start => {?MODULE, start_child, [Client]}},
    {ok, {#{strategy => one_for_one, intensity => 1000000000, period => 1}, [Child]}}.

handle_call(inc, _, Value) -> {reply, Value + 1, Value + 1}.
handle_cast(inc, Value) -> {noreply, Value + 1};
handle_cast(crash, _) -> error(crash).
handle_info(_, Value) -> {noreply, Value}.
terminate(_, _) -> ok.
