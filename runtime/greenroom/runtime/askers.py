"""What stands between a caller and the flow: kept answers, tools, and who asks of all these."""

import anyio

from greenroom.actors.asks import Asker
from greenroom.actors.asks.cache import CachingAsker, ResponseCache
from greenroom.actors.asks.tools import ToolAsker, ToolRunner
from greenroom.actors.kernel import ActorRef, Clock
from greenroom.actors.settings import CacheSettings
from greenroom.runtime.options import Asked

_TOOL_THREADS = 40
"""As many as anyio keeps for everything else: functions that hang must not take the threads of others."""


class Askers:
    """Made once, on the loop.

    Args:
        settings: of the cache.
        clock: time.
        catalog: the catalogue, by name.
    """

    def __init__(self, settings: CacheSettings, clock: Clock, catalog: ActorRef) -> None:
        self.cache = ResponseCache(settings, clock)
        self._cache_unless_told = settings.enabled
        self._clock = clock
        self._catalog = catalog
        self._threads = anyio.CapacityLimiter(_TOOL_THREADS)

    def before(self, asker: Asker, asked: Asked) -> Asker:
        """Who asks what was asked: the asker itself, or what stands before it."""
        if self._cache_unless_told if asked.cache is None else asked.cache:
            asker = CachingAsker(asker, self.cache, self._catalog)
        if asked.toolbox is not None:
            # Each round is looked for by itself, so that tools run anew even where all answers are kept.
            runner = ToolRunner(asked.toolbox, asked.tool_terms, self._clock, self._threads)
            asker = ToolAsker(asker, runner)
        return asker
