"""OpenAI's newer wire: responses whole and streamed, with the errors, limits and models of the older one.

Source: OpenAI's published OpenAPI specification (CreateResponse, Response, ResponseStreamEvent), and the types of the
official client.
"""

from greenroom.runtime.simulator.wires.responses.wire import ResponsesWire

__all__ = ["ResponsesWire"]
