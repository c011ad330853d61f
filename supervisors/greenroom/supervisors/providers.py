"""The `providers` branch: one supervisor a provider, with its limiter and its pool.

`Lines` is what flows call where a provider's actors do not run yet. It also owns what outlives them: the sockets, what
was granted, and the specs from which a new branch begins them again.
"""

from collections.abc import Callable, Mapping

import anyio

from greenroom.actors.call import Line
from greenroom.actors.catalog import UnknownModel
from greenroom.actors.events import Event
from greenroom.actors.kernel import ActorSystem
from greenroom.actors.limiter import Allowance, Limiter
from greenroom.actors.local import Loaded, Local, LocalLine
from greenroom.actors.pool import Pool, Sockets, Warm
from greenroom.actors.pool.breaker import Breaker
from greenroom.actors.providers.hosts import RUN_HERE
from greenroom.actors.settings import ProviderSettings, Secret, Supervision
from greenroom.supervisors.branch import Branch, Keep
from greenroom.supervisors.spec import ChildSpec
from greenroom.supervisors.supervisor import Supervisor

NAME = "providers"


class Lines:
    """The ways to the providers in use, started on demand.

    Args:
        system: the actor system.
        settings: providers by name.
        keys: their keys, for those that take one.
        supervision: how many restarts are borne.
        tell: where the breakers' events go.
    """

    def __init__(
        self,
        system: ActorSystem,
        settings: Mapping[str, ProviderSettings],
        keys: Mapping[str, Secret],
        supervision: Supervision,
        tell: Callable[[Event], None],
    ) -> None:
        self._system = system
        self._settings = settings
        self._keys = keys
        self._supervision = supervision
        self._tell = tell
        self._kept: dict[str, ChildSpec] = {}
        self._specs: dict[str, ChildSpec] = {}
        self._lines: dict[str, Line] = {}
        self._running: set[str] = set()
        self._starting = anyio.Lock()

    def branch(self) -> ChildSpec:
        """The branch itself, to be started under the root."""
        options = {"intensity": self._supervision.intensity, "period": self._supervision.period_s}
        return ChildSpec(NAME, Branch, args=(self._kept,), kwargs=options, name=NAME)

    async def ensure(self, provider: str) -> Line:
        """The line to a provider, its actors running.

        Raises:
            UnknownModel: it is not configured.
            CertificatesUnusable: see there.
        """
        async with self._starting:
            if provider not in self._lines:
                self._open(provider)
            if provider not in self._running:
                line = self._lines[provider]
                await line.sockets.prepare()
                # Cancelled here, it may run all the same, and the same spec finds it.
                await self._system.named(NAME).call(Keep(self._specs[provider]))
                self._running.add(provider)
                if line.sockets.warm_connections:
                    line.pool.cast(Warm())
            return self._lines[provider]

    def is_broken(self, provider: str) -> bool:
        """Whether a provider's breaker is open. One that was not asked yet has none."""
        line = self._lines.get(provider)
        return line is not None and line.sockets.breaker.wait_s() > 0.0

    async def aclose(self) -> None:
        """Close every provider's connections, once nobody uses them."""
        lines, self._lines = self._lines, {}
        for line in lines.values():
            await line.sockets.aclose()
            if line.local is not None:
                await line.local.loaded.aclose()

    def _open(self, provider: str) -> None:
        settings = self._settings.get(provider) or RUN_HERE.get(provider)
        if settings is None:
            raise UnknownModel(
                f"provider {provider!r} is not configured; there are: {', '.join(self._settings)}"
            )
        allowance = Allowance(settings.limits, self._system.clock.monotonic(), settings.wire)
        breaker = Breaker(provider, settings.breaker, self._system.clock.monotonic, self._tell)
        sockets = Sockets(settings, self._keys.get(provider), breaker)
        limiter, pool = f"limiter:{provider}", f"pool:{provider}"
        local = None
        if settings.serve is not None:
            local = LocalLine(self._system.named(f"models:{provider}"), Loaded(settings))
        self._lines[provider] = Line(
            limiter=self._system.named(limiter),
            pool=self._system.named(pool),
            sockets=sockets,
            allowance=allowance,
            local=local,
        )
        children = [
            ChildSpec("limiter", Limiter, args=(provider, allowance), name=limiter),
            ChildSpec("pool", Pool, args=(provider, sockets), name=pool),
        ]
        if local is not None:
            children.append(ChildSpec("models", Local, args=(local.loaded,), name=f"models:{provider}"))
        self._specs[provider] = ChildSpec(
            provider,
            Supervisor,
            args=(children,),
            kwargs={"intensity": self._supervision.intensity, "period": self._supervision.period_s},
            name=f"provider:{provider}",
        )
