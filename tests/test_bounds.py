"""The most tokens that a request can be charged for."""

import pytest
from msgspec import Raw

from greenroom.actors.call.bounds import (
    ASSUMED_OUTPUT_TOKENS,
    ASSUMED_SEARCHES,
    held_price,
    input_tokens_bound,
    output_tokens_bound,
)
from greenroom.actors.prices import Price, rates
from greenroom.actors.providers import ChatRequest, ImagePart, Message, TextPart
from greenroom.actors.providers.chat import ImageUrl


def asks(*messages: Message, max_tokens: int | None = None, n: bytes | None = None) -> ChatRequest:
    extra = {} if n is None else {"n": Raw(n)}
    return ChatRequest(model="a/b", messages=messages, max_tokens=max_tokens, extra=extra)


def test_text_is_bounded_by_its_bytes() -> None:
    assert input_tokens_bound(asks(Message("user", "x")), 77, "b") == 77
    assert input_tokens_bound(asks(Message("user", (TextPart("x"),))), 77, "b") == 77


def test_each_image_adds_the_most_that_one_can_come_to() -> None:
    image = ImagePart(ImageUrl("https://a.example/b.png"))
    request = asks(Message("user", (TextPart("x"), image)), Message("assistant"), Message("user", (image,)))
    assert input_tokens_bound(request, 300, "gpt-5") == 300 + 2 * 5_000
    assert input_tokens_bound(request, 300, "gpt-4o-mini-2024-07-18") == 300 + 2 * 50_000


@pytest.mark.parametrize(
    ("max_tokens", "n", "most"),
    [
        (10, None, 10),
        (None, None, ASSUMED_OUTPUT_TOKENS),
        (10, b"1", 10),
        (10, b"null", 10),
        (10, b"3", 30),
        (10, b'"three"', 10),
        (10, b"-3", 10),
    ],
)
def test_output_is_bounded_for_each_answer_asked_for(
    max_tokens: int | None, n: bytes | None, most: int
) -> None:
    assert output_tokens_bound(asks(max_tokens=max_tokens, n=n)) == most


def test_candidates_are_answers_too() -> None:
    request = ChatRequest(model="a/b", messages=(), max_tokens=10, extra={"candidateCount": Raw(b"4")})
    assert output_tokens_bound(request) == 40


FAST = Price(rates(2 * 10**6, 2 * 10**6, web_search=10**16))
PRICE = Price(rates(10**6, 10**6, web_search=10**16), served={"priority": FAST, "fast": FAST})
SEARCHES_PUSD = ASSUMED_SEARCHES * 10**10


@pytest.mark.parametrize(
    ("options", "pusd"),
    [
        ({}, 8),
        ({"top_k": b"5"}, 8),
        ({"service_tier": b'"priority"'}, 16),
        ({"service_tier": b'"auto"'}, 8),
        ({"service_tier": b'"ultra"'}, 8),
        ({"service_tier": b"[1]"}, 8),
        ({"serviceTier": b'"PRIORITY"'}, 16),
        ({"speed": b'"fast"'}, 16),
        ({"speed": b'"standard"', "service_tier": b'"priority"'}, 16),
        ({"web_search_options": b"{}"}, 8 + SEARCHES_PUSD),
        ({"tools": b'[{"googleSearch":{}}]', "serviceTier": b'"priority"'}, 16 + SEARCHES_PUSD),
    ],
)
def test_the_tier_and_the_searches_that_are_asked_for_are_held(options: dict[str, bytes], pusd: int) -> None:
    extra = {name: Raw(value) for name, value in options.items()}
    request = ChatRequest(model="a/b", messages=(), extra=extra)
    assert held_price(request, PRICE).bound_pusd(5, 3) == pusd


@pytest.mark.parametrize(
    ("tools", "pusd"),
    [
        (b'[{"type":"function","function":{"name":"web_search"}}]', 8),
        (b'[{"type":"function"},{"type":"web_search"}]', 8 + SEARCHES_PUSD),
        (b'[{"type":', 8),
        (b"null", 8),
    ],
)
def test_tools_of_the_providers_own_may_search(tools: bytes, pusd: int) -> None:
    request = ChatRequest(model="a/b", messages=(), tools=Raw(tools))
    assert held_price(request, PRICE).bound_pusd(5, 3) == pusd


def test_a_model_that_searches_unasked_is_held_with_its_fees() -> None:
    price = Price(rates(10**6, 10**6, citation=5 * 10**5, web_search=10**16))
    assert held_price(asks(), price).bound_pusd(5, 3) == 8 + SEARCHES_PUSD
