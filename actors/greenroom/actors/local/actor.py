"""Which local models are loaded: started when they are asked, stopped when nobody asks any more, never too many.

A call that needs a model says `Use`. A name that is new is looked up, which needs no room; then it waits for room, in
order, and the model that has been idle longest makes it; then it waits for the model to be loaded.

The processes, and who uses them, are `Loaded`, owned by the tree: an actor that dies takes no answer with it, and its
next incarnation finds the models loaded. One that is being loaded goes with the actor; who waits for it asks again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec import Struct

from greenroom.actors.events import ProviderError, ProviderFailed
from greenroom.actors.kernel import Actor, Call, Cast, Overloaded, Piped, ReplyTo, handles
from greenroom.actors.local.process import ModelProcess
from greenroom.actors.local.sources import Source, find_source
from greenroom.actors.log import Log
from greenroom.actors.settings import LocalServing, ProviderSettings, Secret

_log = Log(__name__)
_SLOTS = 4
"""Of a process of ours where none are configured: there is nothing to find out about what we make."""
_BACKOFF_BASE_S = 0.5
_BACKOFF_MAX_S = 30.0
_STEADY_S = 60.0
"""A process that lived so long has not died of being started."""
_MAX_REMEMBERED = 1_000
"""Models whose failures are remembered: callers may name any."""


class Served(Struct, frozen=True):
    """Where a model answers, and with which key."""

    base_url: str
    key: Secret


class Use(Call[Served | ProviderError], frozen=True, resend=True):
    """Ask for a model to be loaded, and to stay so; answered when it can be asked, or cannot be loaded.

    The caller ends its use with `Loaded.give_back` and `Unused`, whether or not it was answered.
    """

    ticket: int
    model: str


class Unused(Cast, frozen=True):
    """The ticket needs its model no longer; another may take its room."""

    ticket: int


class _Ended(Cast, frozen=True):
    """A model's process is gone."""

    name: str


class _Idle(Struct, frozen=True):
    """Our own timer: the model may have been idle for long enough. One that was loaded anew has a timer of its own."""

    name: str
    process: ModelProcess


class _Deaths(Struct):
    """How often a model's process failed in a row, and when it may be started again."""

    count: int = 0
    not_before_s: float = 0.0


class LoadedModel(Struct, eq=False):
    """A loaded model. `idle_since_s` is when its last user left; one that is `stopping` takes no more, and one that is
    `suspect`, since a connection to it was cut, is looked after first: its end may not be known yet.
    """

    process: ModelProcess
    loaded_at_s: float
    idle_since_s: float
    users: int = 0
    stopping: bool = False
    suspect: bool = False

    def stop(self) -> None:
        self.stopping = True
        self.process.kill()


class Loaded:
    """What outlives the actor of the local models. Owned by the tree.

    Args:
        settings: the provider's.

    Attributes:
        models: those that are loaded, by the name that they are asked for by.
        users: who uses which, by ticket.
        deaths: what failed, by name.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.serving = settings.serve or LocalServing()
        concurrency = settings.limits.concurrency
        self.slots = _SLOTS if concurrency == "auto" else concurrency
        self.models: dict[str, LoadedModel] = {}
        self.users: dict[int, LoadedModel] = {}
        self.deaths: dict[str, _Deaths] = {}

    def give_back(self, ticket: int, now_s: float, outcome: str) -> None:
        """End a use, with what came of it; nothing happens where there is none."""
        model = self.users.pop(ticket, None)
        if model is not None:
            model.users -= 1
            model.idle_since_s = now_s
            model.suspect = model.suspect or outcome == "connection"

    async def aclose(self) -> None:
        """Stop every model, and wait until its process is gone."""
        models, self.models = self.models, {}
        await asyncio.gather(*(model.process.aclose() for model in models.values()))


_Waiter = tuple[Use, ReplyTo[Served | ProviderError]]


class Local(Actor):
    """Loads and unloads local models.

    Args:
        loaded: what outlives this incarnation.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._models = loaded.models
        self._aside: dict[str, list[_Waiter]] = {}
        self._found: dict[str, Source] = {}
        self._waiting: deque[_Waiter] = deque()
        self._starting: dict[str, list[_Waiter]] = {}

    async def init(self) -> None:
        for name, model in tuple(self._models.items()):
            self._watch(name, model)

    @handles
    def use(self, message: Use, reply_to: ReplyTo[Served | ProviderError]) -> None:
        # One that is loaded waits behind those who wait for room, or else it would never be idle.
        self._waiting.append((message, reply_to))
        self._serve_waiting()

    @handles
    def unused(self, message: Unused) -> None:
        self._loaded.give_back(message.ticket, self.system.clock.monotonic(), "ok")
        self._serve_waiting()

    @handles
    def ended(self, message: _Ended) -> None:
        self._forget_if_ended(message.name)
        self._serve_waiting()

    async def handle_info(self, message: object) -> None:
        if isinstance(message, _Idle):
            self._stop_if_idle(message)
        elif isinstance(message, Piped):
            match message.value:
                case Source() as source:
                    name = str(message.tag)
                    self._found[name] = source
                    self._waiting.extend(self._aside.pop(name))
                case bool() as answers:
                    name = str(message.tag)
                    if answers and name in self._models:
                        self._models[name].suspect = False
                    self._waiting.extend(self._aside.pop(name))
                case ModelProcess() as process:
                    self._started(str(message.tag), process)
                case _:
                    self._refused(str(message.tag), message.error)
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        """Serve who waits, in order, up to the first who needs room that there is not."""
        while self._waiting:
            waiter = self._waiting[0]
            name = waiter[0].model
            self._forget_if_ended(name)
            model = self._models.get(name)
            if waiter[1].abandoned:
                self._waiting.popleft()
                self._found.pop(name, None)
            elif model is not None and model.suspect:
                self._set_aside(self._waiting.popleft(), model.process.answers)
            elif model is not None and not model.stopping:
                self._grant(model, self._waiting.popleft())
            elif name in self._starting:
                self._starting[name].append(self._waiting.popleft())
            elif name not in self._found:
                find = partial(_found, name, self._loaded.serving)
                self._set_aside(self._waiting.popleft(), find)
            elif self._has_room():
                self._start(name, self._waiting.popleft())
            else:
                return

    def _grant(self, model: LoadedModel, waiter: _Waiter) -> None:
        message, reply_to = waiter
        if message.ticket not in self._loaded.users:
            self._loaded.users[message.ticket] = model
            model.users += 1
        reply_to.reply(Served(model.process.base_url, model.process.key))

    def _set_aside(self, waiter: _Waiter, until: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Have who waits for a model step aside, until something is known of it that needs no room."""
        name = waiter[0].model
        aside = self._aside.get(name)
        if aside is not None:
            aside.append(waiter)
            return
        self._aside[name] = [waiter]
        self.pipe_to_self(until(), tag=name)

    def _has_room(self) -> bool:
        """Whether another model may be loaded; where not, the one that was idle longest is stopped for it."""
        for name in tuple(self._models):
            self._forget_if_ended(name)
        models = self._models.values()
        if len(models) + len(self._starting) < self._loaded.serving.max_loaded:
            return True
        idle = [model for model in models if not model.users and not model.stopping]
        if idle and not any(model.stopping for model in models):
            min(idle, key=lambda model: model.idle_since_s).stop()
        return False

    def _start(self, name: str, waiter: _Waiter) -> None:
        self._starting[name] = [waiter]
        deaths = self._loaded.deaths.get(name)
        delay_s = deaths.not_before_s - self.system.clock.monotonic() if deaths is not None else 0.0
        self.pipe_to_self(self._run(name, self._found.pop(name), delay_s), tag=name)

    async def _run(self, name: str, source: Source, delay_s: float) -> ModelProcess:
        if delay_s > 0:
            await self.system.clock.sleep(delay_s)
        return await ModelProcess.start(name, source, self._loaded.serving, self._loaded.slots)

    def _started(self, name: str, process: ModelProcess) -> None:
        now_s = self.system.clock.monotonic()
        model = self._models[name] = LoadedModel(process, loaded_at_s=now_s, idle_since_s=now_s)
        _log.info("local model loaded", model=name)
        for waiter in self._starting.pop(name):
            if not waiter[1].abandoned:
                self._grant(model, waiter)
        self._watch(name, model)

    def _refused(self, name: str, error: BaseException | None) -> None:
        if not isinstance(error, ProviderFailed):
            assert error is not None, "a task that ends without a value has failed"
            raise error
        if name in self._starting:
            self._failed(name, 0.0)
            waiters = self._starting.pop(name)
        else:
            waiters = self._aside.pop(name)
        for _, reply_to in waiters:
            reply_to.reply(error.error)

    def _failed(self, name: str, lived_s: float) -> None:
        """Have the next start wait: not the first, which may mend it all, but any after that."""
        all_deaths = self._loaded.deaths
        deaths = all_deaths.pop(name, None)
        if deaths is None or lived_s >= _STEADY_S:
            deaths = _Deaths()
        if len(all_deaths) >= _MAX_REMEMBERED:
            del all_deaths[next(iter(all_deaths))]
        deaths.count += 1
        doublings = min(deaths.count - 2, 16)
        delay_s = 0.0 if doublings < 0 else min(_BACKOFF_MAX_S, _BACKOFF_BASE_S * 2**doublings)
        deaths.not_before_s = self.system.clock.monotonic() + delay_s
        all_deaths[name] = deaths

    def _watch(self, name: str, model: LoadedModel) -> None:
        model.process.on_end = partial(self._tell_ended, name)
        self.send_after(self._loaded.serving.idle_s, _Idle(name, model.process))
        if model.process.ended:
            self._tell_ended(name)

    def _forget_if_ended(self, name: str) -> None:
        model = self._models.get(name)
        if model is not None and model.process.ended:
            del self._models[name]
            if not model.stopping:
                self._failed(name, self.system.clock.monotonic() - model.loaded_at_s)

    def _tell_ended(self, name: str) -> None:
        # Were the mailbox full, the next use would find the process ended all the same.
        with suppress(Overloaded):
            self.ref.cast(_Ended(name))

    def _stop_if_idle(self, timer: _Idle) -> None:
        name = timer.name
        model = self._models.get(name)
        if model is None or model.stopping or model.process is not timer.process:
            return
        idle_s = self._loaded.serving.idle_s
        left_s = idle_s if model.users else model.idle_since_s + idle_s - self.system.clock.monotonic()
        if left_s > 0:
            self.send_after(left_s, timer)
        else:
            _log.info("local model unloaded, for nobody asked it", model=name, idle_s=idle_s)
            model.stop()


async def _found(name: str, serving: LocalServing) -> Source:
    return await asyncio.to_thread(find_source, name, serving)
