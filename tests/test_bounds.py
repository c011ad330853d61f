"""The most tokens that a request can be charged for."""

import pytest
from msgspec import Raw

from greenroom.actors.bounds import ASSUMED_OUTPUT_TOKENS, input_tokens_bound, output_tokens_bound
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
