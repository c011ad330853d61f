"""How a stream comes: how many tokens a chunk, how many chunks at once, and how long each token takes."""

import re
from collections.abc import Iterator

import msgspec

from greenroom.runtime.simulator.engine import Dice

MAX_CHUNK_TOKENS = 10_000
_SIZES = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?$")


class Pace(msgspec.Struct, frozen=True):
    """The pace of all streams of one simulator.

    Args:
        per_token_s: Seconds after each token; 0 sends everything as fast as the client reads.
        least_tokens: The fewest tokens in one chunk.
        most_tokens: The most tokens in one chunk; sizes between are drawn for each request.
        burst_chunks: So many chunks are sent in one write, after which their tokens' time passes.
    """

    per_token_s: float = 0.0
    least_tokens: int = 1
    most_tokens: int = 1
    burst_chunks: int = 1

    def sizes(self, seed: int, key: bytes) -> Iterator[int]:
        """The sizes of a stream's chunks in tokens, without end, fixed by the seed and the request's digest."""
        dice = Dice(seed, "chunks", key)
        while True:
            yield (
                self.least_tokens
                if self.least_tokens == self.most_tokens
                else dice.between(self.least_tokens, self.most_tokens)
            )


def parse_sizes(text: str) -> tuple[int, int]:
    """Reads a chunk's size in tokens, such as "1" or "1-8".

    Raises:
        ValueError: It is neither, or out of range.
    """
    found = _SIZES.match(text.strip())
    least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= least <= most <= MAX_CHUNK_TOKENS:
        raise ValueError(
            f"chunk_tokens {text!r} is no size; write 1, or 1-8 for sizes between, at most {MAX_CHUNK_TOKENS}"
        )
    return least, most
