"""Amazon Bedrock's wire: converse whole, and streamed in Amazon's event framing.

Source: Amazon Bedrock API reference (Converse, ConverseStream), the Smithy specification of the event stream encoding,
and the service model of the official client. Signatures are not looked at; a key is taken as a bearer token.
"""

from greenroom.runtime.simulator.wires.bedrock.wire import BedrockWire

__all__ = ["BedrockWire"]
