"""greenroom's public face: `Runtime`, and the types it takes and gives.

Names are imported when they are first asked for: importing this package costs nothing, and importing a part of it
does not bring the database, the HTTP client and everything else along.
"""

import gc
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenroom.actors.asks.structured import AnswerInvalid as AnswerInvalid
    from greenroom.actors.asks.structured import ParsedReply as ParsedReply
    from greenroom.actors.asks.structured import Rejected as Rejected
    from greenroom.actors.asks.tools import Tool as Tool
    from greenroom.actors.asks.tools import ToolCallInvalid as ToolCallInvalid
    from greenroom.actors.asks.tools import ToolInvalid as ToolInvalid
    from greenroom.actors.asks.tools import ToolRoundsExceeded as ToolRoundsExceeded
    from greenroom.actors.batch import JobProgress as JobProgress
    from greenroom.actors.catalog import Choice as Choice
    from greenroom.actors.catalog import ModelCard as ModelCard
    from greenroom.actors.catalog import NothingEligible as NothingEligible
    from greenroom.actors.catalog import ProviderModels as ProviderModels
    from greenroom.actors.catalog import Requirements as Requirements
    from greenroom.actors.catalog import Strategy as Strategy
    from greenroom.actors.events import CallEvent as CallEvent
    from greenroom.actors.events import Finished as Finished
    from greenroom.actors.events import ProviderError as ProviderError
    from greenroom.actors.events import ProviderFailed as ProviderFailed
    from greenroom.actors.events import ReasoningDelta as ReasoningDelta
    from greenroom.actors.events import ReasoningState as ReasoningState
    from greenroom.actors.events import RefusalDelta as RefusalDelta
    from greenroom.actors.events import Started as Started
    from greenroom.actors.events import StreamEvent as StreamEvent
    from greenroom.actors.events import TextDelta as TextDelta
    from greenroom.actors.events import ToolCall as ToolCall
    from greenroom.actors.events import ToolCallDelta as ToolCallDelta
    from greenroom.actors.events import ToolResult as ToolResult
    from greenroom.actors.events import Tried as Tried
    from greenroom.actors.events import Usage as Usage
    from greenroom.actors.flow import Closed as Closed
    from greenroom.actors.flow import Reply as Reply
    from greenroom.actors.flow import RuntimeFailed as RuntimeFailed
    from greenroom.actors.flow.embedding import Embeddings as Embeddings
    from greenroom.actors.flow.event_stream import EventStream as EventStream
    from greenroom.actors.limiter import CannotStart as CannotStart
    from greenroom.actors.providers import Message as Message
    from greenroom.actors.providers.counting import CountedInput as CountedInput
    from greenroom.actors.session import SessionStream as SessionStream
    from greenroom.actors.session import Window as Window
    from greenroom.actors.settings import Settings as Settings
    from greenroom.runtime.config import ConfigError as ConfigError
    from greenroom.runtime.images import Image as Image
    from greenroom.runtime.images import ImageInvalid as ImageInvalid
    from greenroom.runtime.images import user_message as user_message
    from greenroom.runtime.job import Job as Job
    from greenroom.runtime.options import OptionInvalid as OptionInvalid
    from greenroom.runtime.options import Options as Options
    from greenroom.runtime.runtime import Runtime as Runtime
    from greenroom.runtime.session import ExportedSession as ExportedSession
    from greenroom.runtime.session import Session as Session
    from greenroom.runtime.sync import SyncEventStream as SyncEventStream
    from greenroom.runtime.sync import SyncRuntime as SyncRuntime

_HOMES = {
    "AnswerInvalid": "greenroom.actors.asks.structured",
    "CallEvent": "greenroom.actors.events",
    "CannotStart": "greenroom.actors.limiter",
    "Choice": "greenroom.actors.catalog",
    "Closed": "greenroom.actors.flow",
    "ConfigError": "greenroom.runtime.config",
    "CountedInput": "greenroom.actors.providers.counting",
    "Embeddings": "greenroom.actors.flow.embedding",
    "EventStream": "greenroom.actors.flow.event_stream",
    "ExportedSession": "greenroom.runtime.session",
    "Finished": "greenroom.actors.events",
    "Image": "greenroom.runtime.images",
    "ImageInvalid": "greenroom.runtime.images",
    "Job": "greenroom.runtime.job",
    "JobProgress": "greenroom.actors.batch",
    "Message": "greenroom.actors.providers",
    "ModelCard": "greenroom.actors.catalog",
    "NothingEligible": "greenroom.actors.catalog",
    "OptionInvalid": "greenroom.runtime.options",
    "Options": "greenroom.runtime.options",
    "ParsedReply": "greenroom.actors.asks.structured",
    "ProviderError": "greenroom.actors.events",
    "ProviderFailed": "greenroom.actors.events",
    "ProviderModels": "greenroom.actors.catalog",
    "ReasoningDelta": "greenroom.actors.events",
    "ReasoningState": "greenroom.actors.events",
    "RefusalDelta": "greenroom.actors.events",
    "Rejected": "greenroom.actors.asks.structured",
    "Reply": "greenroom.actors.flow",
    "Requirements": "greenroom.actors.catalog",
    "Runtime": "greenroom.runtime.runtime",
    "RuntimeFailed": "greenroom.actors.flow",
    "Session": "greenroom.runtime.session",
    "SessionStream": "greenroom.actors.session",
    "Settings": "greenroom.actors.settings",
    "Started": "greenroom.actors.events",
    "Strategy": "greenroom.actors.catalog",
    "StreamEvent": "greenroom.actors.events",
    "SyncEventStream": "greenroom.runtime.sync",
    "SyncRuntime": "greenroom.runtime.sync",
    "TextDelta": "greenroom.actors.events",
    "Tool": "greenroom.actors.asks.tools",
    "ToolCall": "greenroom.actors.events",
    "ToolCallDelta": "greenroom.actors.events",
    "ToolCallInvalid": "greenroom.actors.asks.tools",
    "ToolInvalid": "greenroom.actors.asks.tools",
    "ToolResult": "greenroom.actors.events",
    "ToolRoundsExceeded": "greenroom.actors.asks.tools",
    "Tried": "greenroom.actors.events",
    "Usage": "greenroom.actors.events",
    "user_message": "greenroom.runtime.images",
    "Window": "greenroom.actors.session",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    collects = gc.isenabled()
    gc.disable()  # what modules leave lives on: looking for garbage among it took a seventh of the time
    try:
        value: object = getattr(import_module(home), name)
    finally:
        if collects:
            gc.enable()
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOMES)
