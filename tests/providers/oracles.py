"""The official clients' types, as oracles of what their providers take."""

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any, cast

import pytest

Json = dict[str, Any]


def needs(module: str) -> pytest.MarkDecorator:
    """Skip a test where an official client is not installed."""
    try:
        missing = importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # nor is the package that it is in
        missing = True
    return pytest.mark.skipif(missing, reason=f"the official client {module} is not installed")


def official(module: str) -> Any:
    """An official client's module, untyped, since it may be missing where types are checked."""
    return importlib.import_module(module)


def serving(body: bytes, content_type: str = "text/event-stream") -> Any:
    """An HTTP client, as the official clients take one, that is answered with `body` whatever it asks."""
    httpx2 = official("httpx2")
    headers = {"content-type": content_type}

    def answer(request: object) -> Any:
        return httpx2.Response(200, headers=headers, content=body)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def assert_taken(module: str, name: str, body: Json) -> None:
    """The client's type `name` takes `body`, and knows every field of it.

    A field that the type does not know is left out of what pydantic took, and so makes a difference.
    """
    from pydantic import TypeAdapter

    adapter: TypeAdapter[object] = TypeAdapter(getattr(official(module), name))
    assert plain(adapter.validate_python(body)) == body


def plain(taken: object) -> object:
    """Walk through what pydantic took: an Iterable is validated only as one walks along it."""
    if isinstance(taken, dict):
        return {name: plain(value) for name, value in cast("Json", taken).items()}
    if isinstance(taken, Iterable) and not isinstance(taken, str):
        return [plain(value) for value in cast("Iterable[object]", taken)]
    return taken
