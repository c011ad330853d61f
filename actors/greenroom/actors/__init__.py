"""Actors, and the kernel they run on. See ``greenroom.actors.kernel`` for what it promises."""

from greenroom.actors.kernel import *  # noqa: F403  # the façade of the kernel's names, listed in its __all__
from greenroom.actors.kernel import __all__ as __all__
