"""The database, for commands that ask no provider: read beside whoever writes it, or written by a runtime of their own."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from greenroom.actors.kernel import Refused
from greenroom.actors.storage import DatabaseMissing, ReadOnly, StorageFailed, open_read_only
from greenroom.runtime.cli.output import fail
from greenroom.runtime.config import ConfigError, database_url, load_settings
from greenroom.runtime.discovery import Chosen
from greenroom.runtime.runtime import Runtime

_T = TypeVar("_T")
Config = Annotated[
    Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
]


@contextmanager
def reading(config: Path | None) -> Generator[ReadOnly | None]:
    """The database, open for reading; None where there is none yet. The command fails where it cannot be read."""
    try:
        with open_read_only(database_url(load_settings(config))) as database:
            yield database
    except DatabaseMissing:
        yield None
    except (ConfigError, StorageFailed) as error:
        fail(str(error))


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
