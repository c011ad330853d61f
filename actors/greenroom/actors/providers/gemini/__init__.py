"""Google's Gemini wire."""

from greenroom.actors.providers.gemini.codec import Gemini as Gemini
