"""Texts as vectors: words and letters hashed to places, so that texts which share words point the same way.

Feature hashing with signs (Weinberger and others 2009). Nothing is understood: what is near is what is written alike.
"""

import hashlib
import math
import re

from greenroom.runtime.simulator.engine.reading import READ_CHARACTERS, stems

DIMENSIONS = 256
MAX_DIMENSIONS = 4_096
_WORD = re.compile(r"[^\W_]+")
_LETTERS = 3
_LETTERS_WEIGHT = 0.2


def embed(text: str, dimensions: int, *, seed: int) -> list[float]:
    """The embedding of `text`: `dimensions` numbers (0: as many as usual) of length 1, fixed by the text and the seed."""
    vector = [0.0] * (dimensions or DIMENSIONS)
    read = text[:READ_CHARACTERS]
    for stem in stems(read):
        _add(vector, stem, seed, 1.0)
    letters = f" {' '.join(_WORD.findall(read.lower()))} "
    for at in range(len(letters) - _LETTERS + 1):
        _add(vector, letters[at : at + _LETTERS], seed, _LETTERS_WEIGHT)
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0:
        vector[0] = length = 1.0
    return [value / length for value in vector]


def _add(vector: list[float], feature: str, seed: int, weight: float) -> None:
    digest = hashlib.blake2b(b"%d\0%s" % (seed, feature.encode()), digest_size=8).digest()
    place = int.from_bytes(digest, "little")
    vector[(place >> 1) % len(vector)] += weight if place & 1 else -weight
