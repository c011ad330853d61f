"""Gemini's wire: generateContent whole and streamed, token counts, models, error bodies; the same on v1 and v1beta.

Source: the reference of the Gemini API (models.generateContent, Troubleshooting), google.rpc.RetryInfo, and the types of the
official client.
"""

from greenroom.runtime.simulator.wires.gemini.wire import GeminiWire

__all__ = ["GeminiWire"]
