"""For tests of programs that use greenroom: providers that say what the test wrote down, and time that obeys it.

    async with runtime_with("Paris.", Fails(503), "London.") as (rt, provider):
        assert (await rt.chat(None, "The capital of France?")).text == "Paris."
        assert (await rt.chat(None, "And of England?")).attempts == 2
        assert [asked.prompt for asked in provider.received] == ["The capital of France?", *["And of England?"] * 2]

Nothing is mocked: the provider is an HTTP server on the loopback that speaks the real wire, and the runtime is whole,
with a database of its own that goes when the test ends. `Simulator` is the provider that makes its answers up, with
limits, faults and a journal; `FakeClock` stands still until told to move, `HastyClock` lets no sleep last.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

import anyio

from greenroom.actors.events import ToolCall
from greenroom.actors.kernel import Clock, FakeClock
from greenroom.actors.kernel.contract.clock import settle
from greenroom.actors.settings import (
    PriceSettings,
    ProviderSettings,
    Retries,
    Settings,
    Stalls,
    StorageSettings,
)
from greenroom.runtime.runtime import Runtime
from greenroom.runtime.simulator import JournalEntry, Simulator, SimulatorSettings
from greenroom.runtime.simulator.script import (
    Answering,
    Breaks,
    Fails,
    Raw,
    Received,
    Says,
    Script,
    Step,
)

__all__ = [
    "Answering",
    "Breaks",
    "Fails",
    "FakeClock",
    "HastyClock",
    "JournalEntry",
    "Raw",
    "Received",
    "Says",
    "ScriptedProvider",
    "Simulator",
    "SimulatorSettings",
    "Step",
    "ToolCall",
    "WireName",
    "runtime_with",
    "settings_for",
]

WireName: TypeAlias = Literal[
    "openai-chat", "openai-responses", "anthropic-messages", "gemini", "ollama", "bedrock-converse"
]
_BELOW_THE_ROOT: dict[WireName, str] = {
    "openai-chat": "/v1",
    "openai-responses": "/v1",
    "anthropic-messages": "/v1",
    "gemini": "/v1",
    "ollama": "",
    "bedrock-converse": "",
}
PROVIDER = "scripted"
MODEL = "any"


class HastyClock(Clock):
    """A clock on which a sleep is over at once, having taken all its time.

    Waits for something to happen are as long as ever; only sleeps (backoff, Retry-After) cost nothing.

    Attributes:
        slept_s: How long each sleep would have been, in seconds, in order.
    """

    def __init__(self) -> None:
        self.slept_s: list[float] = []
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s

    def time(self) -> float:
        return super().time() + self._ahead_s

    async def sleep(self, delay_s: float) -> None:
        await settle()  # what was told before the sleep is heard before it
        self.slept_s.append(delay_s)
        self._ahead_s += delay_s


class ScriptedProvider:
    """A provider whose every answer the test has written down, over real HTTP; use it as `async with`.

    It takes any model and any key, speaks every wire that the simulator speaks, and delivers an answer whole or
    streamed as the request wants it.

    Args:
        *script: An answer for each request in the order of arrival: a text, `Says`, `Fails`, `Breaks`, `Raw`, or a
            function that is given the request (`Received`) and gives one of those, or an awaitable of one. What such
            a function raises, an assertion say, the client is told with a 400, and the block raises it when it ends.
        then: What answers every further request; None: a 400 whose message says that the script is over.
        clock: What `Says.after_s` and stalls wait on.
    """

    def __init__(
        self, *script: Step | Answering, then: Step | Answering | None = None, clock: Clock | None = None
    ) -> None:
        self._script = Script(script, then)
        # Quick to close: a request that a test leaves hanging is not waited for.
        settings = SimulatorSettings(shutdown_grace_s=0.001)
        self.simulator = Simulator(settings, clock=clock, script=self._script)

    def __repr__(self) -> str:
        return f"<ScriptedProvider {len(self.received)} received, {self.left} answers left>"

    async def __aenter__(self) -> Self:
        await self.simulator.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.simulator.aclose()
        if error is None and self._script.failure is not None:
            raise self._script.failure

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base URL.

        Raises:
            RuntimeError: It is used outside `async with`.
        """
        return self.simulator.openai_base_url

    def settings(
        self,
        directory: Path,
        *,
        wire: WireName = "openai-chat",
        prices: Mapping[str, PriceSettings] | None = None,
        retries: Retries | None = None,
        stalls: Stalls | None = None,
    ) -> Settings:
        """Settings of a runtime that asks nobody but this provider; see `settings_for`."""
        return settings_for(
            self.simulator, directory, wire=wire, prices=prices, retries=retries, stalls=stalls
        )

    @property
    def received(self) -> tuple[Received, ...]:
        """The requests so far, oldest first; of very many the newest."""
        return tuple(self._script.received)

    @property
    def left(self) -> int:
        """How many answers of the script nobody has asked for."""
        return len(self._script.steps)

    def say(self, *script: Step | Answering) -> None:
        """Adds answers to the end of the script."""
        self._script.steps.extend(script)

    async def wait_received(self, count: int) -> None:
        """Waits until so many requests have come. Cancelled, nothing is left behind."""
        await self._script.wait_received(count)


def settings_for(
    simulator: Simulator,
    directory: Path,
    *,
    wire: WireName = "openai-chat",
    prices: Mapping[str, PriceSettings] | None = None,
    retries: Retries | None = None,
    stalls: Stalls | None = None,
) -> Settings:
    """Settings of a runtime that asks nobody but `simulator`, and keeps its database in `directory`.

    Args:
        simulator: Which listens.
        directory: Where `greenroom.db` is made, or found.
        wire: What they speak with each other.
        prices: Of each model, "*" for all others; None: everything is free.
        retries: The retry policy; None: the usual one.
        stalls: How long a call may be silent; None: as long as usual.

    Returns:
        Settings in which that provider is called "scripted" and is asked where no model is named.
    """
    provider = ProviderSettings(
        base_url=simulator.url + _BELOW_THE_ROOT[wire],
        wire=wire,
        default_model=MODEL,
        free=prices is None,
        prices=dict(prices or {}),
        stalls=stalls or Stalls(),
    )
    return Settings(
        providers={PROVIDER: provider},
        storage=StorageSettings(url=f"sqlite:///{directory / 'greenroom.db'}"),
        retries=retries or Retries(),
    )


@asynccontextmanager
async def runtime_with(
    *script: Step | Answering,
    then: Step | Answering | None = None,
    wire: WireName = "openai-chat",
    prices: Mapping[str, PriceSettings] | None = None,
    retries: Retries | None = None,
    stalls: Stalls | None = None,
    clock: Clock | None = None,
) -> AsyncGenerator[tuple[Runtime, ScriptedProvider], None]:
    """A whole runtime and the scripted provider that it asks, with a database that goes when the block ends.

    Args:
        *script: As of `ScriptedProvider`.
        then: The same.
        wire: What they speak with each other.
        prices: Of the provider's models (see `settings_for`); None: everything is free.
        retries: The retry policy; None: the usual one.
        stalls: How long a call may be silent; None: as long as usual.
        clock: Time for both; None: no sleep of the runtime lasts, while the provider's time is real.

    Yields:
        The runtime, which asks the provider wherever no model is named, and the provider.
    """
    async with (
        anyio.TemporaryDirectory(prefix="greenroom-") as directory,
        ScriptedProvider(*script, then=then, clock=clock) as provider,
        Runtime(
            provider.settings(Path(directory), wire=wire, prices=prices, retries=retries, stalls=stalls),
            environ={},
            clock=clock or HastyClock(),
        ) as rt,
    ):
        yield rt, provider
