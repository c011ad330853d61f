"""Anthropic's wire: messages whole and streamed, token counts, models, error bodies.

Source: Anthropic's API reference (Messages, Streaming, Errors, Rate limits), and the types of its official client.
"""

from greenroom.runtime.simulator.wires.anthropic.wire import AnthropicWire

__all__ = ["AnthropicWire"]
