"""The wire formats that the simulator speaks: bytes to questions and answers to bytes."""

from greenroom.runtime.simulator.wires.anthropic import AnthropicWire
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

__all__ = ["ANTHROPIC", "GEMINI", "OLLAMA", "OPENAI", "RESPONSES", "Asked", "Wire", "WireError"]
