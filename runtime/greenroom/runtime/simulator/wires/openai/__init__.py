"""OpenAI's wire: chat completions whole and streamed, models, error bodies.

Source: OpenAI's published OpenAPI specification (CreateChatCompletionRequest, CreateChatCompletionResponse,
CreateChatCompletionStreamResponse, ListModelsResponse, ErrorResponse), and answers seen on the wire.
"""

from greenroom.runtime.simulator.wires.openai.wire import OpenAIWire

__all__ = ["OpenAIWire"]
