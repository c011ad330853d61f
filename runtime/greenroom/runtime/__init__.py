"""greenroom's public face: `Runtime`, and the types it takes and gives."""

from greenroom.actors.batch import JobProgress as JobProgress
from greenroom.actors.events import Finished as Finished
from greenroom.actors.events import ProviderError as ProviderError
from greenroom.actors.events import ProviderFailed as ProviderFailed
from greenroom.actors.events import ReasoningDelta as ReasoningDelta
from greenroom.actors.events import RefusalDelta as RefusalDelta
from greenroom.actors.events import Started as Started
from greenroom.actors.events import StreamEvent as StreamEvent
from greenroom.actors.events import TextDelta as TextDelta
from greenroom.actors.events import ToolCall as ToolCall
from greenroom.actors.events import ToolCallDelta as ToolCallDelta
from greenroom.actors.events import Usage as Usage
from greenroom.actors.flow import Reply as Reply
from greenroom.actors.providers import Message as Message
from greenroom.actors.settings import Settings as Settings
from greenroom.actors.streaming import EventStream as EventStream
from greenroom.runtime.config import ConfigError as ConfigError
from greenroom.runtime.runtime import Job as Job
from greenroom.runtime.runtime import Runtime as Runtime
