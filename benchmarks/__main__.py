"""Run benchmarks by name; all of them when none is named.

Each is a module `benchmarks.NAME` with `main(argv) -> int`: 0 when every promise it measured is met, 1 when one
falls short. `python -m benchmarks NAME --help` tells a benchmark's own options.
"""

import importlib
import itertools
import pkgutil
import sys

import benchmarks


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if not m.name.startswith("_"))


def main(argv: list[str]) -> int:
    chosen = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
    options = argv[len(chosen) :]
    if not chosen and "--help" in options:
        print(f"{__doc__}\nBenchmarks: {', '.join(names())}")
        return 0
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    return max(_run(name, options) for name in chosen or names())


def _run(name: str, options: list[str]) -> int:
    code: int = importlib.import_module(f"benchmarks.{name}").main(options)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
