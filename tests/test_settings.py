"""Settings refuse what they do not know, and a Secret shows itself to nobody who does not ask for it by name."""

import copy
import logging
from collections.abc import Callable

import msgspec
import pytest
import structlog

from greenroom.actors.settings import (
    Limits,
    PriceSettings,
    ProviderSettings,
    Retries,
    Secret,
    Settings,
    Stalls,
)

CANARY = "sk-canary-3f9a"


SHOWS: list[Callable[[Secret], str]] = [
    repr,
    str,
    lambda secret: f"{secret}",
    lambda secret: f"{secret!r:>40}",
    lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - how logging formats its arguments
    lambda secret: repr({"key": [secret]}),
    lambda secret: repr(copy.copy(secret)),
    lambda secret: str(ValueError("no", secret)),
    lambda secret: str(structlog.processors.KeyValueRenderer()(None, "info", {"key": secret})),
    lambda secret: str(structlog.processors.JSONRenderer()(None, "info", {"key": secret})),
]


@pytest.mark.parametrize("show", SHOWS)
def test_a_secret_is_in_no_text(show: Callable[[Secret], str]) -> None:
    text = show(Secret(CANARY))
    assert CANARY not in text
    assert "canary" not in text


def test_a_secret_is_in_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("key %s %r", Secret(CANARY), Secret(CANARY))
    assert "Secret(***)" in caplog.text
    assert CANARY not in caplog.text


@pytest.mark.parametrize("encode", [msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins])
def test_a_secret_is_encoded_by_no_encoder(encode: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as refusal:
        encode({"key": Secret(CANARY)})
    assert CANARY not in str(refusal.value)


def test_a_secret_is_revealed_to_who_asks() -> None:
    assert Secret(CANARY).reveal() == CANARY
    assert Secret(CANARY)
    assert not Secret("")


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"connect_s": 0}, Stalls),
        ({"gap_s": -1}, Stalls),
        ({"total_s": float("nan")}, Stalls),
        ({"gap_s": float("inf")}, Stalls),
        ({"backoff_max_s": float("inf")}, Retries),
        ({"first_byte_s": "600"}, Stalls),
        ({"attempts": 0}, Retries),
        ({"attempts": 1.5}, Retries),
        ({"backoff_base_s": 0}, Retries),
        ({"concurrency": 0}, Limits),
        ({"requests_per_min": 0}, Limits),
        ({"tokens_per_min": -5}, Limits),
        ({"input": "0.1", "output": "-1"}, PriceSettings),
        ({"input": "1e3", "output": "1"}, PriceSettings),
        ({"input": ".5", "output": "1"}, PriceSettings),
        ({"input": 0.5, "output": "1"}, PriceSettings),
        ({"input": "0.5"}, PriceSettings),
        ({"base_url": "http://x", "wire": "smoke"}, ProviderSettings),
        ({"base_url": "http://x", "max_tokens_field": "tokens"}, ProviderSettings),
        ({"base_url": "http://x", "api_key": CANARY}, ProviderSettings),
        ({"storage": {"uri": "sqlite://"}}, Settings),
    ],
)
def test_what_makes_no_sense_is_refused(table: dict[str, object], kind: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError) as refusal:
        msgspec.convert(table, kind)
    assert CANARY not in str(refusal.value)


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"connect_s": 0.05, "total_s": 60}, Stalls),
        ({"attempts": 1, "backoff_max_s": 1}, Retries),
        ({"concurrency": 1, "requests_per_min": 1, "tokens_per_min": 1}, Limits),
        ({"input": "0", "output": "12.345678901234", "cached": "0.075"}, PriceSettings),
        ({"base_url": "http://x"}, ProviderSettings),
        ({}, Settings),
    ],
)
def test_what_makes_sense_is_taken(table: dict[str, object], kind: type[msgspec.Struct]) -> None:
    made = msgspec.convert(table, kind)
    assert {name: getattr(made, name) for name in table} == table


def test_what_a_stall_is_unless_told() -> None:
    assert Stalls() == Stalls(connect_s=10.0, first_byte_s=600.0, gap_s=300.0, total_s=3600.0)
