"""A runtime that asks nobody, for commands that only write to the database."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from greenroom.actors.kernel import Refused
from greenroom.runtime.cli.output import fail
from greenroom.runtime.config import ConfigError
from greenroom.runtime.discovery import Chosen
from greenroom.runtime.runtime import Runtime

_T = TypeVar("_T")


def with_runtime(config: Path | None, change: Callable[[Runtime], Awaitable[_T]]) -> _T:
    """What `change` comes to; the command fails where the database or the request is no good."""

    async def run() -> _T:
        nobody = Chosen(providers={}, keys={}, default_model=None, how="nobody is asked")
        async with Runtime(config, chosen=nobody) as rt:
            return await change(rt)

    try:
        return asyncio.run(run())
    except (ConfigError, Refused, ValueError) as error:
        fail(str(error))
