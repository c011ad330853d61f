"""The wire formats that the simulator speaks: bytes to questions and answers to bytes."""

from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.openai import OpenAIWire
from greenroom.runtime.simulator.wires.wire import Asked, Wire

OPENAI = OpenAIWire()

__all__ = ["OPENAI", "Asked", "OpenAIWire", "Wire", "WireError"]
