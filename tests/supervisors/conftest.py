"""A system on a clock that stands still, for every test here."""

from tests.conformance.stage import clock, reports, system

__all__ = ["clock", "reports", "system"]
