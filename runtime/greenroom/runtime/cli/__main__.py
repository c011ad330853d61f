"""`python -m greenroom.runtime.cli`: the `greenroom` command of this very interpreter."""

from greenroom.runtime.cli import main

main()
