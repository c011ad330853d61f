"""The actor kernel: what actors may rely on, and the limit beside each promise.

**Order.** What one sender sends to one actor is handled in that order: calls, casts, other objects, and the kernel's own
messages (``Down``, ``Exit``, timers, requests to stop) in one mailbox. Between two senders there is no order. What an actor
sent before it ended arrives before its ``Down``. Three things overtake: ``kill``; ``continue_with``, ``set_timeout(0)`` and
``self.stop`` for the actor that calls them; and all that asks a suspended actor.

**One message at a time.** No two handlers of an actor ever overlap, also when one waits. A slow one keeps the others waiting:
let ``pipe_to_self`` do what takes long, or keep the ``ReplyTo`` and answer later. An actor that calls itself gets
``CallingSelf`` at once; two that call each other wait for their timeouts.

**Delivery** is at most once. What reaches nobody is a dead letter: counted, logged, the last ones kept. A call is answered
once: by a reply, a refusal, the actor's end, or its timeout (5 s unless given); a later or a second reply is counted and
dropped. Only a message marked ``resend=True`` and called by name may arrive twice.

**What waits.** Whatever is ``async`` may: ``start`` for ``init``; ``call`` for the reply; ``send`` for room; ``stop`` and
``wait_down`` for the end; ``suspend``, ``get_state`` and their like for their turn. All else returns at once. A plain handler
cannot wait, and while it runs nothing else does: ``ActorSystem(stall_s=...)`` reports one that takes too long. A caller whose
calls are answered on its own stack yields after some hundred of them, or half a millisecond.

**How an actor ends.**

============ ============================ ================ ====================== =====================================
by           what waits in the mailbox    running handler  ``terminate`` runs     reason
============ ============================ ================ ====================== =====================================
``stop``     before it: is handled        ends first       yes                    as given; ``Killed`` when time is up
self.stop    callers are told, rest lost  ends first       yes                    as given
a crash      callers are told, rest lost  it was that      yes                    ``Crashed``
an exit      before it: is handled        ends first       only if it traps       that of the linked actor
``kill``     callers are told, rest lost  is cancelled     no                     ``Killed``
============ ============================ ================ ====================== =====================================

Tasks of ``pipe_to_self`` are cancelled and awaited before ``terminate``. Then the name is free, then callers have their
answer, and only then monitors and links are told, each once. A handler that swallows its cancellation is cancelled four times,
half a second apart, then left behind and counted as a zombie. Leaving ``async with ActorSystem()`` stops what no other actor
started, newest first, one after the other, also when cancelled or interrupted; then no task, timer or name is left.

**What cancellation leaves behind.** Of a cancelled ``call``: nothing if it was still in the mailbox, **else the handler goes on
and its reply is dropped**, so what a reply hands over needs a ticket that its caller gives back in ``finally``. ``start``: no
actor. ``send``: nothing was sent. ``stop``: the actor goes on ending, in its class's time. ``replace_state`` **may happen all the
same**. ``Request.wait``: the request goes on.

**Where each callback runs.**

=============================================== ========================== ============================================
callback                                        task                       context variables
=============================================== ========================== ============================================
``__init__``                                    that of who starts it      theirs
``init``, async handlers, ``handle_info``       the actor's                the actor's, begun as the system's were
``terminate``                                   the actor's                the actor's
plain handlers                                  any, or none               the actor's
``format_state``, ``replace_state``'s function  any, or none               the actor's
a coroutine of ``pipe_to_self``                 one of its own             a copy of the actor's
``on_dead_letter``, ``on_report``               where it happened          as it happens; what they raise is logged
``on_stall``                                    the watching thread        none
``Registry.dispatch``'s function                the caller's               the caller's
=============================================== ========================== ============================================

**Limits.** A mailbox holds 10 000 messages (``capacity``), then refuses with ``Overloaded`` or drops the oldest. What the
kernel itself delivers is never refused: there is one for each monitor, link, timer and task that the actor made. 64 dead
letters are kept, a trace keeps what it is told, a snapshot shows 10 000 actors. A crash report names the class of a message,
never its content, and shows state through ``format_state``, cut to size, without secrets. Everything belongs to one event
loop; another thread gets in by ``loop.call_soon_threadsafe``.

**Following one message** from ``call`` to its reply takes four functions: ``Incarnation.call`` (for an idle actor with a plain
handler that is all), ``Incarnation._submit`` which puts it into the mailbox, ``Process._step`` which takes it out, and
``Process._handle_call`` which runs the handler and answers. What an async handler begins there, the actor's task goes on with
(``Process._main``); an idle actor whose task is still there is handed the message by ``_submit`` itself.

**Where the conformance table is met in another way**, by number, with a test each:

- S03: one reason, ``Killed``, stands for OTP's ``kill`` and ``killed``; raised inside, it can be trapped all the same.
- G30, G31: hibernation is automatic. An idle actor has no task; after an async handler one lingers for up to a second.
- G34: there are no nodes to call; many actors are asked at once with ``Requests``.
- G44: reports name no client, since callers are tasks and have no address.
- V07: there is no list of modules, since code is not replaced in a running system.
- V08, V10: an unknown field or option is an error, where OTP ignores it.
- V11, V29: a ``DynamicSupervisor`` is Elixir's: each ``StartChild`` brings its spec, and a child that has ended is unknown.
- V14: ``start`` returns a ref and nothing beside; what an actor has to tell, it is asked.
- G46, V48, P11, P13: tests count turns of the loop and bytes; the benchmarks measure time and the large numbers.
"""

from greenroom.actors.kernel.actor import Actor
from greenroom.actors.kernel.contract.clock import Clock, FakeClock, TimerHandle, settle
from greenroom.actors.kernel.contract.errors import (
    ActorError,
    ActorExited,
    BadReturn,
    CallingSelf,
    Ignored,
    NameTaken,
    Overloaded,
    Refused,
    StartFailed,
    Stop,
    SystemClosed,
    UndefinedHandler,
)
from greenroom.actors.kernel.contract.messages import Call, Cast, Down, Exit, Piped, Timeout
from greenroom.actors.kernel.contract.reasons import Crashed, ExitReason, Killed, NoProcess, Normal, Shutdown
from greenroom.actors.kernel.contract.ref import ActorRef, ReplyTo
from greenroom.actors.kernel.dispatch import handles
from greenroom.actors.kernel.engine.core import DeadLetter
from greenroom.actors.kernel.engine.deadlines import Deadlines
from greenroom.actors.kernel.engine.deadlines import Queue as DeadlineQueue
from greenroom.actors.kernel.engine.named import Name, Via
from greenroom.actors.kernel.engine.reports import Report
from greenroom.actors.kernel.engine.ties import TraceEvent
from greenroom.actors.kernel.engine.timers import Pipe, Timer
from greenroom.actors.kernel.inspection import (
    ActorSnapshot,
    ActorStatistics,
    SystemSnapshot,
    SystemStatistics,
    format_tree,
)
from greenroom.actors.kernel.registry import Registered, Registry, Unregistered
from greenroom.actors.kernel.requests import Outcome, Request, Requests
from greenroom.actors.kernel.state import presentable
from greenroom.actors.kernel.system import ActorSystem
from greenroom.actors.kernel.watchdog import Stall

__all__ = [
    "Actor",
    "ActorError",
    "ActorExited",
    "ActorRef",
    "ActorSnapshot",
    "ActorStatistics",
    "ActorSystem",
    "BadReturn",
    "Call",
    "CallingSelf",
    "Cast",
    "Clock",
    "Crashed",
    "DeadLetter",
    "DeadlineQueue",
    "Deadlines",
    "Down",
    "Exit",
    "ExitReason",
    "FakeClock",
    "Ignored",
    "Killed",
    "Name",
    "NameTaken",
    "NoProcess",
    "Normal",
    "Outcome",
    "Overloaded",
    "Pipe",
    "Piped",
    "Refused",
    "Registered",
    "Registry",
    "ReplyTo",
    "Report",
    "Request",
    "Requests",
    "Shutdown",
    "Stall",
    "StartFailed",
    "Stop",
    "SystemClosed",
    "SystemSnapshot",
    "SystemStatistics",
    "Timeout",
    "Timer",
    "TimerHandle",
    "TraceEvent",
    "UndefinedHandler",
    "Unregistered",
    "Via",
    "format_tree",
    "handles",
    "presentable",
    "settle",
]
