"""The way of a call, from its hold to its settlement: attempts, streams, hedges, and `Flow`, which owns them."""

from greenroom.actors.flow.flow import NO_TERMS as NO_TERMS
from greenroom.actors.flow.flow import Closed as Closed
from greenroom.actors.flow.flow import Flow as Flow
from greenroom.actors.flow.flow import Reply as Reply
from greenroom.actors.flow.flow import RuntimeFailed as RuntimeFailed
from greenroom.actors.flow.flow import Terms as Terms
