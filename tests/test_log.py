"""The log that is there before structlog is."""

import logging
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from greenroom.actors.log import Log, prepare


def test_what_is_said_has_its_level_and_its_facts() -> None:
    log = Log("greenroom.here")
    prepare()
    with capture_logs() as said:
        log.debug("a", n=1)
        log.info("b")
        log.warning("c", name="x")
        log.error("d")
        log.log(logging.WARNING, "e")
        try:
            int("broken")
        except ValueError:
            log.exception("f", job="j")
    assert said == [
        {"event": "a", "n": 1, "log_level": "debug"},
        {"event": "b", "log_level": "info"},
        {"event": "c", "name": "x", "log_level": "warning"},
        {"event": "d", "log_level": "error"},
        {"event": "e", "log_level": "warning"},
        {"event": "f", "job": "j", "exc_info": True, "log_level": "error"},
    ]


@pytest.fixture
def unconfigured() -> Iterator[None]:
    """A program that knows nothing of structlog."""
    before = structlog.get_config() if structlog.is_configured() else None
    structlog.reset_defaults()
    yield
    if before is not None:
        structlog.configure(**before)


@pytest.mark.usefixtures("unconfigured")
def test_a_program_that_configured_nothing_keeps_its_output(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    log = Log("greenroom.test")
    with caplog.at_level(logging.INFO, logger="greenroom.test"):
        log.info("attempt failed", model="acme/fast", attempts=2)
        log.log(logging.WARNING, "slow")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "attempt failed model='acme/fast' attempts=2"),
        ("WARNING", "slow"),
    ]
    assert capsys.readouterr().out == ""
