"""OpenAI's Responses wire."""

from greenroom.actors.providers.responses.codec import OpenAIResponses as OpenAIResponses
