"""Anthropic's Messages wire."""

from greenroom.actors.providers.anthropic.messages import AnthropicMessages as AnthropicMessages
