"""The log. structlog is imported when something is first said, since it brings rich along, which takes a while."""

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
        import_module("structlog").get_logger(self._name).log(level, what)

    def _say(self, level: str, what: str, facts: dict[str, object]) -> None:
        logger = import_module("structlog").get_logger(self._name)
        getattr(logger, level)(what, **facts)


def prepare() -> None:
    """Import what the log needs. Blocking: call it in a thread, before something is said on a loop."""
    import_module("structlog")
