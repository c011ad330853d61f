"""Starts `greenroom` processes quickly: imports everything once, then forks for each command.

It reads one JSON request a line on standard input, answers `{"pid": ...}`, and later `{"pid": ..., "code": ...}` when
that process has ended. A forked command is a process of its own, with its own files, environment, user and signals.
"""

import gc
import importlib
import json
import os
import selectors
import signal
import sys
from typing import NoReturn, TypedDict

_IMPORTED = (
    "greenroom.runtime.cli",
    "greenroom.runtime.simulator",
    "alembic.autogenerate",
    "alembic.command",
    "alembic.config",
    "anyio._backends._asyncio",
    "genai_prices.data",
    "platformdirs.unix",
    "rich._emoji_codes",
    "rich.live",
    "rich.status",
    "sqlalchemy.dialects.sqlite",
)


class Request(TypedDict):
    args: list[str]
    cwd: str
    env: dict[str, str]
    stdin: str
    stdout: str
    stderr: str
    uid: int | None


def main() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    # Nobody collects what was imported, so ending a command touches none of it.
    gc.freeze()
    woken, wake = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, _wake_up)
    signal.set_wakeup_fd(wake)
    _tell({"ready": True})
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 16)
                if key.fd == woken:
                    _reap()
                elif not data:
                    return
                else:
                    *lines, pending = (pending + data).split(b"\n")
                    for line in lines:
                        _begin(json.loads(line), (wake, woken))


def _begin(request: Request, own: tuple[int, int]) -> None:
    if pid := os.fork():
        _tell({"pid": pid})
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for fd in own:
        os.close(fd)
    _become(request)


def _become(request: Request) -> NoReturn:
    """Be the command, as if started from a shell."""
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = ((request["stdin"], os.O_RDONLY), (request["stdout"], write), (request["stderr"], write))
    for fd, (path, flags) in enumerate(files):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, fd)
        os.close(opened)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["uid"] is not None:
        os.setgroups([])
        os.setgid(request["uid"])
        os.setuid(request["uid"])
    sys.argv = ["greenroom", *request["args"]]
    from greenroom.runtime.cli import main as greenroom

    greenroom()
    sys.exit(0)


def _wake_up(number: int, frame: object) -> None:
    """Only to be there: without a handler the wake-up descriptor stays silent."""


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell({"pid": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(message: dict[str, object]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
