"""OpenAI's chat completions wire, which most hosts speak."""

from greenroom.actors.providers.openai.chat import OpenAIChat as OpenAIChat
