"""Lists of models, as hosts give them."""

import json
from typing import Any, get_args, get_type_hints

import pytest

from greenroom.actors.providers import RejectedAnswer
from greenroom.actors.providers.listing import PATHS, ListedModel, decode_listing
from greenroom.actors.settings import ProviderSettings

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        (
            {"id": "gpt-5-mini", "object": "model", "created": 1, "owned_by": "openai"},
            ListedModel("gpt-5-mini"),
        ),
        (
            {
                "id": "openai/gpt-oss-20b",
                "active": True,
                "context_window": 131072,
                "max_completion_tokens": 65536,
            },
            ListedModel("openai/gpt-oss-20b", 131072, 65536),
        ),
        (
            {"id": "mistral-small-2501", "max_context_length": 32768, "deprecation": "2026-11-30T12:00:00Z"},
            ListedModel("mistral-small-2501", 32768, retires="2026-11-30"),
        ),
        ({"id": "Qwen/Qwen3-8B", "max_model_len": 40960}, ListedModel("Qwen/Qwen3-8B", 40960)),
        (
            {"id": "x-ai/grok", "name": "xAI: Grok", "context_length": 256000},
            ListedModel("x-ai/grok", 256000),
        ),
        (
            {
                "id": "claude-opus-5",
                "type": "model",
                "display_name": "Claude Opus 5",
                "created_at": "2026-03-04T00:00:00Z",
                "lifecycle": "deprecated",
                "max_input_tokens": 1000000,
                "max_tokens": 128000,
                "retires_at": "2027-03-04T00:00:00Z",
            },
            ListedModel("claude-opus-5", 1000000, 128000, "2027-03-04"),
        ),
        (
            {"name": "models/gemini-3.8-flash", "inputTokenLimit": 1048576, "outputTokenLimit": 65536},
            ListedModel("gemini-3.8-flash", 1048576, 65536),
        ),
        ({"name": "llama3.2:1b", "model": "llama3.2:1b", "size": 1321098329}, ListedModel("llama3.2:1b")),
        ({"id": "odd", "context_length": "8k", "max_tokens": -1, "deprecation": None}, ListedModel("odd")),
    ],
)
def test_what_hosts_say_of_a_model(entry: Json, model: ListedModel) -> None:
    for body in ({"object": "list", "data": [entry]}, {"models": [entry]}, [entry]):
        assert decode_listing(json.dumps(body).encode()) == (model,)


def test_what_cannot_be_asked_or_has_no_name_is_left_out() -> None:
    entries = [{"id": "b"}, {"id": "old", "lifecycle": "retired"}, {}, {"id": ""}, {"id": "a"}]
    assert [model.id for model in decode_listing(json.dumps({"data": entries}).encode())] == ["b", "a"]
    assert decode_listing(b'{"data":[]}') == ()
    # llama.cpp tells the same models twice.
    assert decode_listing(b'{"models":[{"name":"x"}],"data":[{"id":"x"}]}') == (ListedModel("x"),)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b"7", b'{"data":7}', b"[7]", b'{"data":[{"id":"caf\xe9"}]}', b"[" * 100_000],
)
def test_what_is_no_list_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        decode_listing(body)


def test_every_wire_says_where_its_models_are_listed() -> None:
    assert sorted(PATHS) == sorted(get_args(get_type_hints(ProviderSettings)["wire"]))
