"""What holds on every wire: rubbish is refused in the dialect's own way, and nothing of a request is lost."""

import json
from contextlib import suppress
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers import (
    test_anthropic_decode,
    test_bedrock_decode,
    test_gemini_decode,
    test_ollama_decode,
    test_openai_stream,
    test_responses_decode,
)
from tests.providers.asking import QUESTION
from tests.providers.streams import events_of

from greenroom.actors.events import Finished, ProviderError, ProviderFailed, Usage
from greenroom.actors.providers import (
    ChatRequest,
    Codec,
    ImagePart,
    ImageUrl,
    Message,
    RejectedAnswer,
    codec_for,
)
from greenroom.actors.providers.options import MAX_IMAGE_BYTES
from greenroom.actors.settings import ProviderSettings, Secret

WIRES = sorted(get_args(get_type_hints(ProviderSettings)["wire"]))
CODECS: dict[str, Codec] = {
    wire: codec_for("p", ProviderSettings(base_url="http://127.0.0.1:9", wire=wire)) for wire in WIRES
}
STREAMS: dict[str, list[bytes]] = {
    "anthropic-messages": [body for body, _ in test_anthropic_decode.STREAMS.values()],
    "bedrock-converse": [body for body, _ in test_bedrock_decode.STREAMS.values()],
    "gemini": [test_gemini_decode.sse(*responses) for responses, _ in test_gemini_decode.STREAMS.values()],
    "ollama": [test_ollama_decode.lines(*objects) for objects, _ in test_ollama_decode.STREAMS.values()],
    "openai-chat": [body for body, _ in test_openai_stream.STREAMS.values()],
    "openai-responses": [
        test_responses_decode.sse(*events) for events, _ in test_responses_decode.STREAMS.values()
    ],
}
every_wire = pytest.mark.parametrize("wire", WIRES)


def test_every_wire_of_the_configuration_is_tried_here() -> None:
    assert sorted(STREAMS) == WIRES


@every_wire
@given(st.data())
def test_a_damaged_stream_ends_in_one_terminal_event(wire: str, data: st.DataObject) -> None:
    body = bytearray(data.draw(st.sampled_from(STREAMS[wire])))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    cut = data.draw(st.integers(0, len(body)))
    # Their order, and that there is one terminal event, is looked at there.
    events = events_of(CODECS[wire].stream_decoder(), [bytes(body[:cut]), bytes(body[cut:])])
    assert isinstance(events[-1], Finished | ProviderError)


@every_wire
@given(
    st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "choices",
                            "content",
                            "message",
                            "output",
                            "candidates",
                            "status",
                            "usage",
                            "done",
                            "type",
                        ]
                    ),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_rubbish_is_rejected_or_read_and_never_a_crash(wire: str, body: bytes) -> None:
    codec = CODECS[wire]
    with suppress(RejectedAnswer, ProviderFailed):
        codec.decode(body)
    error = codec.failure(500, {}, body, 0.0)
    assert error.provider == "p"
    assert error.message
    assert len(error.message) < 3_000


@every_wire
def test_a_key_stands_in_one_header_and_in_no_request(wire: str) -> None:
    codec = CODECS[wire]
    headers = codec.session_headers(Secret("canary"))
    assert [value for value in headers.values() if "canary" in value] != []
    assert all("canary" not in value for value in codec.session_headers(None).values())
    assert codec.request_id_header == codec.request_id_header.lower()


USED: dict[str, bytes] = {
    "anthropic-messages": b'{"content":[],"stop_reason":"end_turn","usage":{"input_tokens":%d,"output_tokens":0}}',
    "bedrock-converse": (
        b'{"output":{"message":{"content":[]}},"stopReason":"end_turn","usage":{"inputTokens":%d,"outputTokens":0}}'
    ),
    "gemini": b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":%d}}',
    "ollama": b'{"done":true,"prompt_eval_count":%d,"eval_count":0}',
    "openai-chat": (
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":%d,"completion_tokens":0}}'
    ),
    "openai-responses": b'{"status":"completed","usage":{"input_tokens":%d,"output_tokens":0}}',
}


@every_wire
def test_more_tokens_than_any_answer_has_are_no_usage(wire: str) -> None:
    assert CODECS[wire].decode(USED[wire] % 10**10).usage == Usage(10**10)
    for count in (-1, 10**10 + 1, 2**64, 10**40):
        with pytest.raises(RejectedAnswer):
            CODECS[wire].decode(USED[wire] % count)


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        ("openai-chat", USED["openai-chat"].replace(b'"completion', b'"num_search_queries":%d,"completion')),
        (
            "anthropic-messages",
            USED["anthropic-messages"].replace(
                b'"output_tokens"', b'"server_tool_use":{"web_search_requests":%d},"output_tokens"'
            ),
        ),
    ],
)
def test_more_searches_than_any_answer_takes_are_no_usage(wire: str, body: bytes) -> None:
    assert CODECS[wire].decode(body % (1, 10**4)).usage.web_searches == 10**4
    for count in (-1, 10**4 + 1, 10**40):
        with pytest.raises(RejectedAnswer):
            CODECS[wire].decode(body % (1, count))


@every_wire
def test_a_whole_answer_that_is_cut_is_none(wire: str) -> None:
    body = USED[wire] % 7
    for at in range(len(body)):
        with pytest.raises(RejectedAnswer):
            CODECS[wire].decode(body[:at])


IMAGES: list[tuple[str, str]] = [
    ("data:text/plain;base64,AAAA", "invalid_request"),
    ("data:;base64,AAAA", "invalid_request"),
    ("data:image/png;base64," + "A" * (MAX_IMAGE_BYTES * 4 // 3 + 5), "invalid_request"),
    ("data:image/png;base64,", "invalid_request"),
    ("/etc/passwd", "invalid_request"),
]


@pytest.mark.parametrize("wire", ["anthropic-messages", "bedrock-converse", "gemini", "ollama"])
@pytest.mark.parametrize(("url", "kind"), IMAGES, ids=range(len(IMAGES)))
def test_what_is_no_image_or_too_large_is_refused_before_the_call(wire: str, url: str, kind: str) -> None:
    message = Message("user", (ImagePart(ImageUrl(url)),))
    with pytest.raises(ProviderFailed) as failed:
        CODECS[wire].encode(ChatRequest(model="p/m", messages=(message,)), "m")
    assert (failed.value.error.kind, failed.value.error.param) == (kind, "image_url")
    assert len(str(failed.value)) < 300


@pytest.mark.parametrize("wire", ["anthropic-messages", "bedrock-converse", "gemini"])
def test_a_kind_of_image_that_the_provider_does_not_take_is_refused(wire: str) -> None:
    for kind, taken in (("image/tiff", False), ("image/PNG", True)):
        message = Message("user", (ImagePart(ImageUrl(f"data:{kind};base64,AAAA")),))
        request = ChatRequest(model="p/m", messages=(message,))
        if taken:
            assert b"AAAA" in CODECS[wire].encode(request, "m").body
            continue
        with pytest.raises(ProviderFailed, match="image/tiff is none of") as failed:
            CODECS[wire].encode(request, "m")
        assert failed.value.error.kind == "unsupported_capability"


@every_wire
def test_asking_twice_gives_the_same_bytes(wire: str) -> None:
    request = ChatRequest(model="p/m", messages=QUESTION, max_tokens=5)
    assert CODECS[wire].encode(request, "m") == CODECS[wire].encode(request, "m")
