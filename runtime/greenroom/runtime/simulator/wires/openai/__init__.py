"""OpenAI's wire: chat completions whole and streamed, models, error bodies.

Source: OpenAI's published OpenAPI specification (CreateChatCompletionRequest, CreateChatCompletionResponse,
CreateChatCompletionStreamResponse, ListModelsResponse, ErrorResponse), and answers seen on the wire.
"""

from greenroom.runtime.simulator.wires.openai.errors import WireError, fault_error, limit_error
from greenroom.runtime.simulator.wires.openai.reply import (
    models_body,
    one_model_body,
    stream_events,
    whole_body,
)
from greenroom.runtime.simulator.wires.openai.request import ChatRequest, parse_chat

__all__ = [
    "ChatRequest",
    "WireError",
    "fault_error",
    "limit_error",
    "models_body",
    "one_model_body",
    "parse_chat",
    "stream_events",
    "whole_body",
]
