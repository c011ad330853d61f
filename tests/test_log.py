"""The log that is there before structlog is."""

import logging

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
