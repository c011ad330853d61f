"""Which path speaks which wire, and who answers there."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeAlias

from aiohttp import web

from greenroom.runtime.simulator.exchange import Exchange
from greenroom.runtime.simulator.serving import Service
from greenroom.runtime.simulator.wires import (
    ANTHROPIC,
    BEDROCK,
    BEDROCK_EMBEDDINGS,
    GEMINI,
    GEMINI_EMBEDDINGS,
    OLLAMA,
    OLLAMA_EMBEDDINGS,
    OPENAI,
    OPENAI_EMBEDDINGS,
    RESPONSES,
    Wire,
    WireError,
)
from greenroom.runtime.simulator.wires.ollama import VERSION

Handler: TypeAlias = Callable[[Exchange], Awaitable[web.StreamResponse]]
# A path that several providers share has no wire of its own.
Route: TypeAlias = tuple[Wire | None, Handler]


class Routes:
    """The table of paths.

    Args:
        service: Answers questions and lists models.
        pages: What the simulator tells about itself: GET handlers by path.
    """

    def __init__(self, service: Service, pages: Mapping[str, Handler]) -> None:
        self._exact: dict[str, dict[str, Route]] = {
            "/v1/chat/completions": {"POST": (OPENAI, service.ask)},
            "/v1/embeddings": {"POST": (OPENAI_EMBEDDINGS, service.ask)},
            "/v1/responses": {"POST": (RESPONSES, service.ask)},
            "/v1/responses/input_tokens": {
                "POST": (RESPONSES, partial(service.count_tokens, RESPONSES.counted))
            },
            "/v1/messages": {"POST": (ANTHROPIC, service.ask)},
            "/v1/messages/count_tokens": {
                "POST": (ANTHROPIC, partial(service.count_tokens, ANTHROPIC.counted))
            },
            "/api/chat": {"POST": (OLLAMA, service.ask)},
            "/api/embed": {"POST": (OLLAMA_EMBEDDINGS, service.ask)},
            "/api/tags": {"GET": (OLLAMA, service.list_models)},
            "/api/show": {"POST": (OLLAMA, service.show_model)},
            "/api/version": {"GET": (OLLAMA, partial(service.say, {"version": VERSION}))},
            "/foundation-models": {"GET": (BEDROCK, service.list_models)},
            "/v1/models": {"GET": (None, service.list_models)},
            "/v1beta/models": {"GET": (GEMINI, service.list_models)},
        }
        self._exact |= {path: {"GET": (OPENAI, page)} for path, page in pages.items()}
        self._one_model: dict[str, dict[str, Route]] = {
            "/v1/models": {"GET": (None, service.retrieve_model)},
            "/v1beta/models": {"GET": (GEMINI, service.retrieve_model)},
        }
        self._converse: dict[str, Route] = {"POST": (BEDROCK, service.ask)}
        self._counted: dict[str, Route] = {"POST": (BEDROCK, partial(service.count_tokens, BEDROCK.counted))}
        self._invoked: dict[str, Route] = {"POST": (BEDROCK_EMBEDDINGS, service.ask)}
        self._foundation_model: dict[str, Route] = {"GET": (BEDROCK, service.retrieve_model)}
        count = partial(service.count_tokens, GEMINI.counted)
        self._of_a_model: dict[str, dict[str, Route]] = {
            "generateContent": {"POST": (GEMINI, service.ask)},
            "streamGenerateContent": {"POST": (GEMINI, service.ask)},
            "countTokens": {"POST": (GEMINI, count)},
            "embedContent": {"POST": (GEMINI_EMBEDDINGS, service.ask)},
            "batchEmbedContents": {"POST": (GEMINI_EMBEDDINGS, service.ask)},
        }

    def find(self, exchange: Exchange) -> Handler:
        """Who serves this request, and sets its wire; a `WireError` for unknown paths and wrong methods."""
        request = exchange.request
        methods = self._exact.get(request.raw_path) or self._methods(request.path)
        if methods is None:
            raise WireError(404, f"Invalid URL ({request.method} {request.path})")
        route = methods.get(request.method)
        if route is None:
            allowed = ", ".join(methods)
            raise WireError(
                405,
                f"Not allowed to {request.method} on {request.path}; allowed: {allowed}",
                code="method_not_supported",
                headers={"Allow": allowed},
            )
        wire, handler = route
        exchange.speak(wire or _clients_wire(request))
        return handler

    def _methods(self, path: str) -> Mapping[str, Route] | None:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        # Not the last slash: a model's name may have some of its own.
        if path.startswith("/model/") and path.endswith(("/converse", "/converse-stream")):
            return self._converse
        if path.startswith("/model/") and path.endswith("/count-tokens"):
            return self._counted
        if path.startswith("/model/") and path.endswith("/invoke"):
            return self._invoked
        if path.startswith("/foundation-models/"):
            return self._foundation_model
        version, _, model = path.partition("/models/")
        start = f"{version}/models"
        if start not in self._one_model or not model:
            return None
        name, colon, verb = model.rpartition(":")
        if colon and name and (methods := self._of_a_model.get(verb)) is not None:
            return methods
        return self._one_model[start]


def _clients_wire(request: web.BaseRequest) -> Wire:
    """Three providers list their models at one path; what else a request carries tells whose client it is."""
    if "anthropic-version" in request.headers:
        return ANTHROPIC
    if "x-goog-api-key" in request.headers or "key" in request.query:
        return GEMINI
    return OPENAI
