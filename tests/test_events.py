"""Usage adds up class by class; a failure says whose it was, what it was, and nothing more."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.events import ErrorKind, ProviderError, ProviderFailed, Usage

SEARCHES = ("web_searches", "file_searches")
CLASSES = tuple(name for name in Usage.__struct_fields__ if name != "service_tier")
INPUT_CLASSES = {
    "input_tokens",
    "cached_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "audio_input_tokens",
    "cached_audio_tokens",
    "image_input_tokens",
    "video_input_tokens",
}

usages = st.builds(
    Usage,
    **dict.fromkeys(CLASSES, st.integers(0, 10**12)),
    service_tier=st.sampled_from(["", "flex", "priority"]),
)


@given(usages, usages)
def test_usage_adds_up_class_by_class(a: Usage, b: Usage) -> None:
    together = a + b
    for name in CLASSES:
        assert getattr(together, name) == getattr(a, name) + getattr(b, name)


@given(usages, usages, usages)
def test_the_order_of_addition_does_not_matter(a: Usage, b: Usage, c: Usage) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Usage() == a


def test_attempts_in_several_tiers_are_mixed() -> None:
    flex, priority = Usage(1, service_tier="flex"), Usage(2, service_tier="priority")
    assert (flex + Usage()).service_tier == (flex + flex).service_tier == "flex"
    assert (flex + priority).service_tier == (flex + priority + flex).service_tier == "mixed"


@given(usages)
def test_every_class_is_counted_in_exactly_one_direction(usage: Usage) -> None:
    everything = sum(getattr(usage, name) for name in CLASSES if name not in SEARCHES)
    assert usage.total_input_tokens + usage.total_output_tokens == everything
    assert usage.total_input_tokens == sum(getattr(usage, name) for name in INPUT_CLASSES)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            ProviderError(
                kind="rate_limited", message="slow down", provider="groq", model="m", status=429, attempts=6
            ),
            "groq/m: rate_limited 429 after 6 attempts: slow down",
        ),
        (
            ProviderError(kind="connection", message="refused", provider="openai", model="gpt"),
            "openai/gpt: connection: refused",
        ),
        (
            ProviderError(kind="protocol", message="no JSON", provider="openai", status=200),
            "openai: protocol 200: no JSON",
        ),
    ],
)
def test_a_failure_says_where_what_and_after_how_many_attempts(error: ProviderError, text: str) -> None:
    assert str(ProviderFailed(error)) == text


def test_a_failure_carries_the_error_and_what_all_attempts_were_charged() -> None:
    error = ProviderError(kind="server", message="m", provider="p")
    failure = ProviderFailed(error, cost_pusd=17)
    assert (failure.error, failure.cost_pusd) == (error, 17)
    assert ProviderFailed(error).cost_pusd == 0


def test_an_error_is_kept_whole_by_an_encoder() -> None:
    error = ProviderError(
        kind="rate_limited",
        message="m",
        provider="p",
        model="x",
        status=429,
        code="c",
        param="q",
        request_id="r",
        retry_after_s=1.5,
        attempts=3,
    )
    assert msgspec.json.decode(msgspec.json.encode(error), type=ProviderError) == error


def test_an_unknown_kind_of_failure_is_refused_by_the_decoder() -> None:
    assert msgspec.convert("stalled", ErrorKind) == "stalled"
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'tired'"):
        msgspec.convert({"kind": "tired", "message": "m"}, ProviderError)


def test_events_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Usage().input_tokens = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # the point
