"""What benchmarks promise of themselves: they go on without what they lack, and end with 1 when a promise falls short."""

import json

import pytest
from benchmarks._contenders import Contender, Lacking, interleaved, started
from benchmarks._harness import Result, report, two_cores


def result(value: float, target: float | None, better: str = "higher") -> Result:
    return Result.of(
        "S1", "calls", [value], "x", target=target, better="lower" if better == "lower" else "higher"
    )


@pytest.mark.parametrize(
    ("value", "target", "better", "code"),
    [
        (8.0, 8.0, "higher", 0),
        (7.9, 8.0, "higher", 1),
        (1.4, 1.4, "lower", 0),
        (1.5, 1.4, "lower", 1),
        (0.0, None, "lower", 0),
    ],
)
def test_a_promise_that_falls_short_ends_a_benchmark_with_one(
    value: float, target: float | None, better: str, code: int
) -> None:
    assert report("actors", [result(value, target, better)], {}, as_json=True) == code
    assert report("actors", [result(value, target, better)], {}, as_json=False) == code


def test_json_tells_the_median_its_spread_and_what_was_lacking(capsys: pytest.CaptureFixture[str]) -> None:
    one = Result.of("S2", "casts", [3.0, 1.0, 2.0], "x", target=1.8, against={"asyncio.Queue": 5.0})
    report("actors", [one], {"pykka": "4.5.0"}, as_json=True, lacks={"ray": "not installed"})
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["benchmark"] == "actors"
    assert told["versions"] == {"pykka": "4.5.0"}
    assert told["lacks"] == {"ray": "not installed"}
    assert told["results"] == [
        {
            "id": "S2",
            "what": "casts",
            "value": 2.0,
            "unit": "x",
            "target": 1.8,
            "better": "higher",
            "min": 1.0,
            "max": 3.0,
            "against": {"asyncio.Queue": 5.0},
            "meets": True,
        }
    ]


def test_what_is_not_installed_is_said_and_the_rest_measured() -> None:
    wanted = [
        ("nobody's", "libraries xoscar_of_nobody"),
        ("a queue", "asyncio_queue"),
        ("no Erlang", "nowhere.escript"),
    ]
    with started(wanted, core=two_cores()[0]) as (contenders, lacks):
        assert [one.name for one in contenders] == ["a queue"]
        assert set(lacks) == {"nobody's", "no Erlang"}
        rounds = interleaved(contenders, "call", rounds=2, seconds=0.001, lacks=lacks)
    assert [figures["per_cpu_s"] > 0 for figures in rounds["a queue"]] == [True, True]


def test_a_contender_that_dies_is_left_out_with_its_last_words() -> None:
    contender = Contender("a queue", "asyncio_queue", core=two_cores()[0])
    with pytest.raises(Lacking, match="died: KeyError: 'flight'"):
        contender.measure("flight", 1)


def test_without_greenroom_itself_nothing_is_measured() -> None:
    with (
        pytest.raises(RuntimeError, match="greenroom: died"),
        started([("greenroom", "libraries nobody")], core=two_cores()[0]),
    ):
        pass
