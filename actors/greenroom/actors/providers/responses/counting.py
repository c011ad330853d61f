"""Counting on OpenAI's wires: `POST /responses/input_tokens`, which serves chat completions as well.

Shapes: OpenAI's published OpenAPI document (TokenCountsBody, TokenCountsResource).
"""

from greenroom.actors.providers.chat import ChatRequest
from greenroom.actors.providers.counting import Counting, input_of, kept
from greenroom.actors.providers.openai import OpenAIChat
from greenroom.actors.providers.options import RequestReader
from greenroom.actors.providers.responses.request import body_of
from greenroom.actors.providers.wire import WireRequest

_COUNTED = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning"}
)


def encode_count(request: ChatRequest, provider: str, model: str) -> WireRequest:
    """See `TokenCounter.encode_count`."""
    body = body_of(RequestReader(input_of(request), provider, model), model, stream=False)
    return WireRequest("/responses/input_tokens", kept(body, _COUNTED))


class CountingChat(Counting, OpenAIChat):
    """Chat completions at a host that has Responses beside them, and so counts."""

    def encode_count(self, request: ChatRequest, model: str) -> WireRequest:
        """See `TokenCounter.encode_count`."""
        return encode_count(request, self._provider, model)
