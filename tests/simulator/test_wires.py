"""The same questions on every wire: whole and streamed, cut short, with tools and schemas, refused and broken."""

from typing import Any

import aiohttp
import msgspec
import pytest
from tests.simulator.conftest import Client, Connect
from tests.simulator.speakers import GEMINI, OLLAMA, RESPONSES, SCHEMA, SPEAKERS, Speaker

from greenroom.actors.kernel import FakeClock
from greenroom.runtime.simulator import Simulator, SimulatorSettings, count_tokens

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: str(speaker.name)),
]
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
PROMPT = "Why do glaciers move slowly through valleys? Grüße, 世界 👋"


@BOTH
async def test_an_echo_comes_back_with_its_tokens_counted(
    client: Client,
    speaker: Speaker,
    stream: bool,  # noqa: FBT001  # a parameter
) -> None:
    heard = await speaker.ask(client, PROMPT, model="echo", stream=stream)
    assert (heard.text, heard.finish, heard.calls) == (PROMPT, speaker.finishes[0], [])
    assert heard.tokens_out == count_tokens(PROMPT)
    assert heard.tokens_in == count_tokens(PROMPT) + 6
    (entry,) = client.simulator.journal
    assert (entry.model, entry.stream, entry.prompt_tokens, entry.completion_tokens) == (
        "echo",
        stream,
        heard.tokens_in,
        heard.tokens_out,
    )


async def test_streamed_and_whole_are_the_same_answer(client: Client, speaker: Speaker) -> None:
    cases: list[dict[str, Any]] = [{}, {"max_tokens": 16}, {"tool": "get_weather"}, {"schema": SCHEMA}]
    for options in cases:
        whole = await speaker.ask(client, "The weather in Oslo?", model="smart", **options)
        streamed = await speaker.ask(client, "The weather in Oslo?", model="smart", stream=True, **options)
        assert streamed == whole


async def test_the_same_request_gets_the_same_bytes(client: Client, speaker: Speaker) -> None:
    for stream in (False, True):
        first, again = [await speaker.send(client, PROMPT, stream=stream) for _ in range(2)]
        assert first.body == again.body


@BOTH
async def test_an_answer_ends_where_it_is_told_to(
    client: Client,
    speaker: Speaker,
    stream: bool,  # noqa: FBT001  # a parameter
) -> None:
    text = "one two three four five six"
    long = text * 4
    cut = await speaker.ask(client, long, model="echo", max_tokens=16, stream=stream)
    assert (cut.text, cut.finish, cut.tokens_out) == (long[:64], speaker.finishes[1], 16)
    if speaker is RESPONSES:
        return  # It has no stop sequences.
    stopped = await speaker.ask(client, text, model="echo", stop=" four", stream=stream)
    assert stopped.text == "one two three"
    assert stopped.finish == (
        "stop_sequence" if speaker.name in {"anthropic", "bedrock"} else speaker.finishes[0]
    )


@BOTH
async def test_a_tool_is_called_with_arguments_that_fit(
    client: Client,
    speaker: Speaker,
    stream: bool,  # noqa: FBT001  # a parameter
) -> None:
    heard = await speaker.ask(client, "What is the weather in Oslo?", tool="get_weather", stream=stream)
    assert (heard.text, heard.finish) == ("", speaker.finishes[2])
    ((name, arguments),) = heard.calls
    assert name == "get_weather"
    assert set(arguments) == {"city"}
    assert isinstance(arguments["city"], str)


async def test_a_schema_is_filled(client: Client, speaker: Speaker) -> None:
    heard = await speaker.ask(client, "The city of Oslo", schema=SCHEMA)
    assert set(msgspec.json.decode(heard.text)) == {"city"}


async def test_an_unknown_model_is_named(client: Client, speaker: Speaker) -> None:
    reply = await speaker.send(client, PROMPT, model="none")
    message, word = speaker.error(reply.json)
    assert reply.status == 404
    assert "none" in message
    assert word in {"", "invalid_request_error", "not_found_error", "NOT_FOUND"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1]", "object"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'{"surprise": 1}', "surprise"),
        (b'{"model": "fast", "messages": [{"role": "wizard", "content": "x"}]}', ""),
        (b'{"contents": [{"parts": []}]}', ""),
    ],
)
async def test_rubbish_gets_an_error_of_the_wires_own(
    client: Client, speaker: Speaker, body: bytes, words: str
) -> None:
    reply = await client.send("POST", speaker.path(), data=body, headers=speaker.headers)
    message, _ = speaker.error(reply.json)
    assert reply.status == 400
    assert words in message


@pytest.mark.parametrize("depth", [30, 330, 900])
async def test_a_schema_that_is_nested_too_deeply_is_refused(
    client: Client, speaker: Speaker, depth: int
) -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema, "minItems": 2}
    reply = await speaker.send(client, PROMPT, schema=schema)
    assert reply.status == 400
    assert speaker.error(reply.json)[0]


@pytest.mark.parametrize(("status", "retry_after"), [(429, True), (500, False), (503, True), (529, False)])
async def test_an_ordered_error_is_worded_as_the_provider_does(
    connect: Connect,
    speaker: Speaker,
    status: int,
    retry_after: bool,  # noqa: FBT001  # a parameter
) -> None:
    async with Simulator(SimulatorSettings(faults=f"{status}@1", fault_retry_after_s=1.5)) as simulator:
        client = connect(simulator)
        reply = await speaker.send(client, PROMPT)
        assert reply.status == status
        told = [reply.headers.get("retry-after"), reply.headers.get("retry-after-ms")]
        if speaker is GEMINI:
            assert told == [None, None]
            assert (b'"retryDelay":"1.5s"' in reply.body) == retry_after
        else:
            assert told == [
                ("2" if retry_after else None),
                ("1500" if speaker.name in {"openai", "responses"} and retry_after else None),
            ]
        words = {
            "openai": {429: "requests", 500: "server_error"},
            "responses": {429: "requests", 500: "server_error"},
            "anthropic": {429: "rate_limit_error", 500: "api_error", 529: "overloaded_error"},
            "gemini": {429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"},
        }
        expected = words.get(speaker.name, {}).get(status)
        assert expected in {None, speaker.error(reply.json)[1]}
        assert (await speaker.send(client, PROMPT)).status == 200


@BOTH
@pytest.mark.parametrize("fault", ["truncate", "drop"])
async def test_a_broken_answer_is_broken_on_every_wire(
    connect: Connect,
    speaker: Speaker,
    fault: str,
    stream: bool,  # noqa: FBT001  # a parameter
) -> None:
    async with Simulator(SimulatorSettings(faults=f"{fault}@1")) as simulator:
        with pytest.raises(aiohttp.ClientError):
            await speaker.send(connect(simulator), PROMPT, stream=stream)


async def test_without_its_last_event_a_stream_does_not_say_that_it_ended(
    connect: Connect, speaker: Speaker
) -> None:
    async with Simulator(SimulatorSettings(faults="no_done@1")) as simulator:
        client = connect(simulator)
        cut, whole = [await speaker.send(client, PROMPT, model="smart", stream=True) for _ in range(2)]
    assert whole.body.startswith(cut.body)
    missing = whole.body.removeprefix(cut.body)
    marks = {
        "openai": b"[DONE]",
        "responses": b"response.completed",
        "bedrock": b"metadata",
        "anthropic": b"message_stop",
        "gemini": b"finishReason",
        "ollama": b'"done":true',
    }
    assert marks[speaker.name] in missing
    assert marks[speaker.name] not in cut.body


@pytest.mark.parametrize("form", ["authorization", "x-api-key", "api-key", "x-goog-api-key", "query"])
async def test_a_key_is_taken_in_any_providers_way(connect: Connect, speaker: Speaker, form: str) -> None:
    def sent(key: str) -> tuple[dict[str, str], dict[str, str]]:
        if form == "query":
            return {}, {"key": key}
        return {form: f"Bearer {key}" if form == "authorization" else key}, {}

    async with Simulator(SimulatorSettings(api_key="right-key")) as simulator:
        client = connect(simulator)
        statuses: list[int] = []
        for key in ("right-key", "wrong-key", ""):
            headers, query = sent(key) if key else ({}, {})
            path = speaker.path().partition("?")[0]
            body = speaker.body(PROMPT, model="fast", stream=False)
            options: dict[str, Any] = {"json": body, "headers": speaker.headers | headers, "params": query}
            statuses.append((await client.send("POST", path, **options)).status)
        assert statuses == {"gemini": [200, 400, 403], "bedrock": [200, 403, 403]}.get(
            speaker.name, [200, 401, 401]
        )


async def test_limits_are_kept_and_told_in_the_wires_own_headers(connect: Connect, speaker: Speaker) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(requests_per_min=2), clock=clock) as simulator:
        client = connect(simulator)
        replies = [await speaker.send(client, PROMPT) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        told = [
            {name: value for name, value in reply.headers.items() if "ratelimit" in name} for reply in replies
        ]
        if speaker.name in {"gemini", "ollama", "bedrock"}:
            assert told == [{}, {}, {}]
        elif speaker.name in {"openai", "responses"}:
            assert told[0] == {
                "x-ratelimit-limit-requests": "2",
                "x-ratelimit-remaining-requests": "1",
                "x-ratelimit-reset-requests": "30s",
            }
        else:
            assert told[1] == {
                "anthropic-ratelimit-requests-limit": "2",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:01:00Z",
            }
        await clock.advance(30)
        assert (await speaker.send(client, PROMPT)).status == 200


async def test_models_are_listed_and_told_one_by_one(client: Client, speaker: Speaker) -> None:
    headers = speaker.headers | ({"x-goog-api-key": "any"} if speaker is GEMINI else {})
    if speaker is OLLAMA:
        listed = (await client.send("GET", "/api/tags")).json["models"]
        shown = await client.send("POST", "/api/show", json={"model": listed[0]["name"]})
        missing = await client.send("POST", "/api/show", json={"model": "none"})
        names = [model["name"] for model in listed]
        assert "completion" in shown.json["capabilities"]
    else:
        path, rows, key = {
            "gemini": ("/v1/models", "models", "name"),
            "bedrock": ("/foundation-models", "modelSummaries", "modelId"),
        }.get(speaker.name, ("/v1/models", "data", "id"))
        page = (await client.send("GET", path, headers=headers)).json[rows]
        names = [model[key] for model in page]
        shown = await client.send("GET", f"{path}/{names[0].removeprefix('models/')}", headers=headers)
        missing = await client.send("GET", f"{path}/none", headers=headers)
        assert page[0] in {"bedrock": [shown.json.get("modelDetails")]}.get(speaker.name, [shown.json])
    assert [name.removeprefix("models/").removesuffix(":latest") for name in names] == [
        model.id for model in client.simulator.models
    ]
    assert (shown.status, missing.status) == (200, 404)
    speaker.error(missing.json)
