"""A blocking runtime for tests without an event loop, and the provider that it asks, on a loop of its own."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from greenroom.actors.settings import PriceSettings
from greenroom.runtime import SyncRuntime
from greenroom.runtime.testing import Answering, ScriptedProvider, Step


@contextmanager
def runtime(
    directory: Path,
    *script: Step | Answering,
    then: Step | Answering | None = None,
    prices: Mapping[str, PriceSettings] | None = None,
) -> Generator[tuple[SyncRuntime, ScriptedProvider]]:
    """The runtime, with its database in `directory`, and the provider."""
    with start_blocking_portal() as portal:
        made = portal.call(partial(ScriptedProvider, *script, then=then))
        with (
            portal.wrap_async_context_manager(made) as provider,
            SyncRuntime(provider.settings(directory, prices=prices), environ={}) as rt,
        ):
            yield rt, provider
