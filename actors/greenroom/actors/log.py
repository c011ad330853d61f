"""The log. structlog is imported when something is first said, since it brings rich along, which takes a while.

Where a program has not configured structlog, what is said goes to Python's `logging`: structlog's own default prints on
standard output, which is the program's.
"""

import logging
from importlib import import_module


class Log:
    """A logger of structlog's, by name; what it is configured to do counts when something is said."""

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, what: str, **facts: object) -> None:
        self._say("debug", what, facts)

    def info(self, what: str, **facts: object) -> None:
        self._say("info", what, facts)

    def warning(self, what: str, **facts: object) -> None:
        self._say("warning", what, facts)

    def error(self, what: str, **facts: object) -> None:
        self._say("error", what, facts)

    def exception(self, what: str, **facts: object) -> None:
        """An error, with the exception that is being handled."""
        self._say("exception", what, facts)

    def log(self, level: int, what: str) -> None:
        """What somebody else has put in words; `level` as in Python's `logging`."""
        structlog = import_module("structlog")
        logger = (
            structlog.get_logger(self._name) if structlog.is_configured() else logging.getLogger(self._name)
        )
        logger.log(level, what)

    def _say(self, level: str, what: str, facts: dict[str, object]) -> None:
        structlog = import_module("structlog")
        if structlog.is_configured():
            getattr(structlog.get_logger(self._name), level)(what, **facts)
        else:
            told = "".join(f" {name}={fact!r}" for name, fact in facts.items())
            getattr(logging.getLogger(self._name), level)("%s%s", what, told)


def prepare() -> None:
    """Import what the log needs. Blocking: call it in a thread, before something is said on a loop."""
    import_module("structlog")
