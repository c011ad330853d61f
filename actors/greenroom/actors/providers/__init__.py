"""Sans-IO codecs: one folder per wire format, bytes in and values out, no socket, clock, task or logger.

A new wire format is one folder and its test tables; a new OpenAI-compatible host is one row in `hosts`.
"""

from greenroom.actors.providers.accumulate import Accumulator as Accumulator
from greenroom.actors.providers.accumulate import Replay as Replay
from greenroom.actors.providers.accumulate import chat_completion as chat_completion
from greenroom.actors.providers.anthropic import AnthropicMessages as AnthropicMessages
from greenroom.actors.providers.bedrock import BedrockConverse as BedrockConverse
from greenroom.actors.providers.chat import ChatOptions as ChatOptions
from greenroom.actors.providers.chat import ChatRequest as ChatRequest
from greenroom.actors.providers.chat import FunctionCall as FunctionCall
from greenroom.actors.providers.chat import ImagePart as ImagePart
from greenroom.actors.providers.chat import ImageUrl as ImageUrl
from greenroom.actors.providers.chat import MaxTokens as MaxTokens
from greenroom.actors.providers.chat import Message as Message
from greenroom.actors.providers.chat import Part as Part
from greenroom.actors.providers.chat import RefusalPart as RefusalPart
from greenroom.actors.providers.chat import RequestedTool as RequestedTool
from greenroom.actors.providers.chat import Role as Role
from greenroom.actors.providers.chat import TextPart as TextPart
from greenroom.actors.providers.gemini import Gemini as Gemini
from greenroom.actors.providers.ollama import Ollama as Ollama
from greenroom.actors.providers.openai import OpenAIChat as OpenAIChat
from greenroom.actors.providers.responses import OpenAIResponses as OpenAIResponses
from greenroom.actors.providers.wire import NEED_DATA as NEED_DATA
from greenroom.actors.providers.wire import Codec as Codec
from greenroom.actors.providers.wire import Completion as Completion
from greenroom.actors.providers.wire import NeedData as NeedData
from greenroom.actors.providers.wire import RejectedAnswer as RejectedAnswer
from greenroom.actors.providers.wire import StreamDecoder as StreamDecoder
from greenroom.actors.providers.wire import WireRequest as WireRequest
from greenroom.actors.providers.wires import codec_for as codec_for
from greenroom.actors.providers.wires import url_of as url_of
