"""What a call is made of: its state, its terms, its wire exchange, and the rules of retrying and failing over."""

from greenroom.actors.call.state import NO_TERMS as NO_TERMS
from greenroom.actors.call.state import CallState as CallState
from greenroom.actors.call.state import Closed as Closed
from greenroom.actors.call.state import Line as Line
from greenroom.actors.call.state import Reply as Reply
from greenroom.actors.call.state import RuntimeFailed as RuntimeFailed
from greenroom.actors.call.state import Terms as Terms
from greenroom.actors.call.state import Way as Way
from greenroom.actors.call.state import again as again
from greenroom.actors.call.state import attempt_failed as attempt_failed
from greenroom.actors.call.state import begin_call as begin_call
from greenroom.actors.call.state import call_done as call_done
from greenroom.actors.call.state import failed_over as failed_over
from greenroom.actors.call.state import hedge_made as hedge_made
from greenroom.actors.call.state import options_dropped as options_dropped
from greenroom.actors.call.state import reply_of as reply_of
from greenroom.actors.call.state import unavailable as unavailable
