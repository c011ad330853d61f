"""The command's tests run it as the integration tests do: in the same places, against the same servers."""

from tests.integration.conftest import greenroom, simulator, upstream

__all__ = ["greenroom", "simulator", "upstream"]
