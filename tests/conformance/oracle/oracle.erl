%% Plays the conformance cases on a real Erlang/OTP and prints what is seen, one case a line: its name, a tab, words.
%% outcomes.txt holds what is expected; test_oracle.py compiles this, runs it and compares the two.
-module(oracle).
-export([main/0]).

main() ->
    io:format("# OTP ~s~n", [erlang:system_info(otp_release)]),
    Running = [{Case, spawn_monitor(fun() -> play(Play) end)} || {Case, Play} <- actors:cases() ++ supervisors:cases()],
    [report(Case, Pid, Monitor) || {Case, {Pid, Monitor}} <- Running],
    ok.

play(Play) ->
    process_flag(trap_exit, true),
    exit({seen, Play()}).

report(Case, Pid, Monitor) ->
    receive
        {'DOWN', Monitor, process, Pid, {seen, Words}} -> io:format("~s\t~s~n", [Case, line(Words)]);
        {'DOWN', Monitor, process, Pid, Reason} -> io:format("~s\tfailed ~0p~n", [Case, Reason])
    after 30000 -> io:format("~s\tdid not end~n", [Case])
    end.

line([]) -> "-";
line(Words) -> lists:join(" ", [text(Word) || Word <- Words]).

text({Label, Word}) -> [text(Label), ":", text(Word)];
text(Word) when is_atom(Word) -> atom_to_list(Word);
text(Word) when is_integer(Word) -> integer_to_list(Word);
text(Word) -> Word.
