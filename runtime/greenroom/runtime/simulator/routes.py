"""Which path speaks which wire, and who answers there."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aiohttp import web

from greenroom.runtime.simulator.exchange import Exchange
from greenroom.runtime.simulator.serving import Service
from greenroom.runtime.simulator.wires import OPENAI, Wire, WireError

Handler: TypeAlias = Callable[[Exchange], Awaitable[web.StreamResponse]]
Route: TypeAlias = tuple[Wire, Handler]


class Routes:
    """The table of paths.

    Args:
        service: Answers questions and lists models.
        pages: What the simulator tells about itself: GET handlers by path.
    """

    def __init__(self, service: Service, pages: Mapping[str, Handler]) -> None:
        self._exact: dict[str, dict[str, Route]] = {
            "/v1/chat/completions": {"POST": (OPENAI, service.ask)},
            "/v1/models": {"GET": (OPENAI, service.list_models)},
        }
        self._exact |= {path: {"GET": (OPENAI, page)} for path, page in pages.items()}
        self._below: dict[str, dict[str, Route]] = {
            "/v1/models/": {"GET": (OPENAI, service.retrieve_model)},
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
        exchange.speak(route[0])
        return route[1]

    def _methods(self, path: str) -> Mapping[str, Route] | None:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        return next((methods for start, methods in self._below.items() if path.startswith(start)), None)
