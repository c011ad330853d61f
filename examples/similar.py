"""Which of some texts is nearest to another one?"""

import asyncio
import math
from collections.abc import Sequence

from greenroom.runtime import Runtime


def similarity(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two vectors."""
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


async def main() -> None:
    texts = ["the quick brown fox", "a fast brown fox", "the annual tax report"]
    async with Runtime() as rt:
        model = rt.chosen.default_model or ""
        first, *others = await rt.embed(model, texts)
        for text, vector in zip(texts[1:], others, strict=True):
            print(f"{similarity(first, vector):.3f} {text}")


asyncio.run(main())
