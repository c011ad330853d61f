"""Ollama's own wire."""

from greenroom.actors.providers.ollama.codec import Ollama as Ollama
