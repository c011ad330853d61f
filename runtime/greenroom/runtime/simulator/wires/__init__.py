"""The wire formats that the simulator speaks: bytes to questions and answers to bytes."""

from greenroom.runtime.simulator.wires.anthropic import AnthropicWire
from greenroom.runtime.simulator.wires.bedrock import BedrockWire
from greenroom.runtime.simulator.wires.embeddings import (
    BedrockEmbeddings,
    GeminiEmbeddings,
    OllamaEmbeddings,
    OpenAIEmbeddings,
)
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.gemini import GeminiWire
from greenroom.runtime.simulator.wires.ollama import OllamaWire
from greenroom.runtime.simulator.wires.openai import OpenAIWire
from greenroom.runtime.simulator.wires.responses import ResponsesWire
from greenroom.runtime.simulator.wires.wire import Asked, Wire

OPENAI = OpenAIWire()
RESPONSES = ResponsesWire()
ANTHROPIC = AnthropicWire()
GEMINI = GeminiWire()
OLLAMA = OllamaWire()
BEDROCK = BedrockWire()
OPENAI_EMBEDDINGS = OpenAIEmbeddings()
GEMINI_EMBEDDINGS = GeminiEmbeddings()
OLLAMA_EMBEDDINGS = OllamaEmbeddings()
BEDROCK_EMBEDDINGS = BedrockEmbeddings()

__all__ = [
    "ANTHROPIC",
    "BEDROCK",
    "BEDROCK_EMBEDDINGS",
    "GEMINI",
    "GEMINI_EMBEDDINGS",
    "OLLAMA",
    "OLLAMA_EMBEDDINGS",
    "OPENAI",
    "OPENAI_EMBEDDINGS",
    "RESPONSES",
    "Asked",
    "Wire",
    "WireError",
]
