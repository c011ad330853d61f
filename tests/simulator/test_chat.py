"""POST /v1/chat/completions over a real socket: shapes, limits of an answer, errors that name the field."""

import hashlib
import json
from typing import Any

import pytest
from tests.simulator.conftest import Client, Connect

from greenroom.runtime.simulator import Simulator, SimulatorSettings, count_tokens

pytestmark = pytest.mark.anyio
TICKET = (
    "Classify this support ticket as exactly one of: billing, bug, feature request, account, shipping, other. "
    "Then give a one-line summary.\n\nTicket:\nHello,\nI was charged twice in October. Please send one payment back."
)


async def test_a_completion_has_the_published_shape(client: Client) -> None:
    reply = await client.chat("Tell me about tea in the mountains.", max_tokens=400)
    body = reply.json
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"].startswith("req_")
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert isinstance(body["created"], int)
    assert body["model"] == "fast"
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["refusal"] is None
    assert "tool_calls" not in choice["message"]
    usage = body["usage"]
    assert usage["completion_tokens"] == count_tokens(reply.text)
    assert usage["prompt_tokens"] == count_tokens("Tell me about tea in the mountains.") + 6
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 0


async def test_every_answer_has_a_request_id_of_its_own(client: Client) -> None:
    first, second = await client.chat("hello"), await client.chat("hello")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.body == second.body


@pytest.mark.parametrize(
    ("ticket", "label"),
    [
        ("I was charged twice in October, please refund one payment.", "billing"),
        ("The app crashes with an error as soon as I open the map.", "bug"),
        ("It would be nice if you could add a dark mode, please.", "feature request"),
        ("I cannot log in, the password reset never works.", "account"),
        ("My parcel has not arrived and the tracking stands still.", "shipping"),
        ("Ich wurde doppelt abgebucht, wo ist meine Rechnung?", "billing"),
        ("Xyzzy plugh.", "other"),
    ],
)
async def test_a_ticket_gets_the_label_that_fits(client: Client, ticket: str, label: str) -> None:
    prompt = f"Choose one of: billing, bug, feature request, account, shipping, other.\n\nTicket:\n{ticket}"
    for model in ("fast", "smart", "classify"):
        assert (await client.chat(prompt, model=model)).text == label


async def test_a_summary_is_given_where_one_is_asked_for(client: Client) -> None:
    assert (await client.chat(TICKET)).text == "billing\nI was charged twice in October"


@pytest.mark.parametrize(
    "offer",
    [
        "Labels: alpha, beta or gamma.",
        "Pick from alpha | beta | gamma",
        "Choose between alpha and beta.",
        "Decide among 'alpha', \"beta\" and gamma",
        "Answer with one of the following categories:\n- alpha: the first\n- beta: the second\n",
    ],
)
async def test_labels_are_read_however_they_are_offered(client: Client, offer: str) -> None:
    messages = [
        {"role": "system", "content": offer},
        {"role": "user", "content": "This one is plainly Beta!"},
    ]
    assert (await client.chat(messages, model="classify")).text == "beta"


async def test_echo_repeats_the_last_user_message(client: Client) -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "an answer"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Grüße, "}, {"type": "text", "text": "世界 👋"}],
        },
    ]
    assert (await client.chat(messages, model="echo")).text == "Grüße, 世界 👋"


async def test_free_text_is_made_of_the_prompts_words(client: Client) -> None:
    reply = await client.chat("Why do glaciers move slowly?", model="chat")
    assert "glaciers" in reply.text.lower()
    longer = await client.chat("Why do glaciers move slowly through valleys in spring?", model="smart")
    assert longer.text.count(".") >= 4


@pytest.mark.parametrize(
    "prompt", ["abcdefghijklmnop", "äöüßéèàçäöüß", "日本語のテキストです", "👋👋👋👋👋", "a👋é日b👋é"]
)
@pytest.mark.parametrize("max_tokens", [1, 2, 3])
async def test_max_tokens_cuts_and_says_length(client: Client, prompt: str, max_tokens: int) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        reply = await client.chat(prompt, model="echo", **{name: max_tokens})
        assert reply.json["choices"][0]["finish_reason"] == "length"
        assert reply.json["usage"]["completion_tokens"] == max_tokens
        assert prompt.startswith(reply.text)
        assert reply.text


async def test_an_answer_that_just_fits_stops_by_itself(client: Client) -> None:
    reply = await client.chat("12345678", model="echo", max_tokens=2)
    assert (reply.text, reply.json["choices"][0]["finish_reason"]) == ("12345678", "stop")


@pytest.mark.parametrize("stop", ["three", ["four", "three"], ["nothing", "three"]])
async def test_a_stop_sequence_ends_the_text_and_is_left_out(client: Client, stop: object) -> None:
    reply = await client.chat("one two three four", model="echo", stop=stop)
    assert reply.text == "one two "
    assert reply.json["choices"][0]["finish_reason"] == "stop"
    assert reply.json["usage"]["completion_tokens"] == count_tokens("one two ")


async def test_several_choices_differ_and_all_count(client: Client) -> None:
    reply = await client.chat("Why do glaciers move slowly through valleys?", model="smart", n=3)
    texts = [choice["message"]["content"] for choice in reply.json["choices"]]
    assert [choice["index"] for choice in reply.json["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert reply.json["usage"]["completion_tokens"] == sum(count_tokens(text) for text in texts)


async def test_answers_depend_on_seed_and_request_only(connect: Connect) -> None:
    prompts = [f"Say something about river number {number} and its fish" for number in range(12)]

    async def bodies(seed: int, order: list[str]) -> dict[str, bytes]:
        async with Simulator(SimulatorSettings(seed=seed)) as simulator:
            client = connect(simulator)
            return {prompt: (await client.chat(prompt, model="smart")).body for prompt in order}

    undisturbed = await bodies(1, prompts)
    resumed = await bodies(1, prompts[5:] + prompts[:5])
    assert resumed == undisturbed
    other = await bodies(2, prompts)
    assert sum(other[prompt] != undisturbed[prompt] for prompt in prompts) >= 10


async def test_parameters_are_part_of_the_question_and_tags_are_not(client: Client) -> None:
    plain = await client.chat("Tell me about tea in the mountains.", model="smart")
    tagged = await client.chat(
        "Tell me about tea in the mountains.",
        model="smart",
        metadata={"custom_id": "7"},
        user="u",
        store=False,
    )
    warmer = await client.chat("Tell me about tea in the mountains.", model="smart", temperature=1.5)
    assert tagged.body == plain.body
    assert warmer.json["id"] != plain.json["id"]


async def test_key_order_and_spaces_do_not_change_the_answer(client: Client) -> None:
    one = '{"model":"smart","messages":[{"role":"user","content":"tea é"}],"seed":3}'
    two = '{ "seed": 3, "messages": [ {"content": "tea \\u00e9", "role": "user"} ], "model": "smart" }'
    headers = {"Content-Type": "application/json"}
    replies = [
        await client.send("POST", "/v1/chat/completions", data=body.encode(), headers=headers)
        for body in (one, two)
    ]
    assert replies[0].body == replies[1].body
    messages = [{"content": "tea é", "role": "user"}]
    text = json.dumps(messages, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digests = {entry.prompt_sha256 for entry in client.simulator.journal}
    assert digests == {hashlib.sha256(text.encode()).hexdigest()}


async def test_images_and_schemas_count_as_prompt(client: Client) -> None:
    text = {"type": "text", "text": "what is this?"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    bare = (await client.chat([{"role": "user", "content": [text]}])).json["usage"]["prompt_tokens"]
    seen = (await client.chat([{"role": "user", "content": [text, image]}])).json["usage"]["prompt_tokens"]
    shaped = await client.chat([{"role": "user", "content": [text]}], response_format={"type": "json_object"})
    assert seen == bare + 85
    assert shaped.json["usage"]["prompt_tokens"] > bare


USER: list[dict[str, Any]] = [{"role": "user", "content": "x"}]
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "look_up"}}


BAD_REQUESTS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"messages": USER}, "model", "missing_required_parameter"),
    ({"model": "fast"}, "messages", "missing_required_parameter"),
    ({"model": "fast", "messages": []}, "messages", "empty_array"),
    ({"model": "fast", "messages": "x"}, "messages", "invalid_type"),
    (
        {"model": "fast", "messages": [{"role": "wizard", "content": "x"}]},
        "messages[0].role",
        "invalid_value",
    ),
    (
        {"model": "fast", "messages": [*USER, {"role": "user"}]},
        "messages[1].content",
        "missing_required_parameter",
    ),
    (
        {"model": "fast", "messages": [{"role": "user", "content": 3}]},
        "messages[0].content",
        "invalid_type",
    ),
    ({"model": "fast", "messages": [{"role": "assistant"}]}, "messages[0].content", "invalid_value"),
    ({"model": "fast", "messages": USER, "max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    ({"model": "fast", "messages": USER, "max_tokens": "9"}, "max_tokens", "invalid_type"),
    ({"model": "fast", "messages": USER, "max_tokens": 99_999_999}, "max_tokens", "invalid_value"),
    ({"model": "fast", "messages": USER, "temperature": 2.5}, "temperature", "decimal_above_max_value"),
    ({"model": "fast", "messages": USER, "n": 0}, "n", "integer_below_min_value"),
    ({"model": "fast", "messages": USER, "frobnicate": 1}, "frobnicate", "unknown_parameter"),
    ({"model": "fast", "messages": USER, "functions": [{}]}, "functions", "unsupported_parameter"),
    ({"model": "fast", "messages": USER, "stream_options": {}}, "stream_options", None),
    ({"model": "fast", "messages": USER, "tool_choice": "required"}, "tool_choice", None),
    (
        {
            "model": "fast",
            "messages": USER,
            "tools": [TOOL],
            "tool_choice": {"type": "function", "function": {"name": "other"}},
        },
        "tool_choice",
        "invalid_value",
    ),
    (
        {"model": "fast", "messages": USER, "max_tokens": 1, "max_completion_tokens": 1},
        "max_tokens",
        "invalid_parameter_combination",
    ),
]


@pytest.mark.parametrize(("body", "param", "code"), BAD_REQUESTS)
async def test_a_bad_request_is_400_and_names_the_field(
    client: Client, body: dict[str, Any], param: str, code: str | None
) -> None:
    reply = await client.send("POST", "/v1/chat/completions", json=body)
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert (reply.error["param"], reply.error["code"]) == (param, code)
    assert reply.error["message"]
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'{"model": "fast", "messages": [{"ro', b"\xff\xfe", b"[" * 100_000]
)
async def test_a_body_that_is_no_json_object_is_400(client: Client, body: bytes) -> None:
    reply = await client.send("POST", "/v1/chat/completions", data=body)
    assert reply.status == 400
    assert reply.error["param"] is None
    assert (await client.chat("still there")).status == 200


async def test_an_unknown_model_is_404_and_the_known_ones_are_named(client: Client) -> None:
    reply = await client.chat("x", model="gpt-nonesuch")
    assert reply.status == 404
    assert reply.error["code"] == "model_not_found"
    assert "fast" in reply.error["message"]


async def test_a_prompt_beyond_the_context_window_is_refused(client: Client) -> None:
    reply = await client.chat("word " * 30_000, model="classify")
    assert reply.status == 400
    assert (reply.error["param"], reply.error["code"]) == ("messages", "context_length_exceeded")
    assert "32000" in reply.error["message"]
