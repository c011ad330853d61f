"""A file of reviews, one question a row. The same call again goes on where it was; nothing is asked twice."""

import asyncio
from pathlib import Path

from greenroom.runtime import Runtime


async def main() -> None:
    reviews = Path(__file__).with_name("reviews.csv")
    async with Runtime() as rt:
        job = await rt.batch(
            reviews,
            prompt="Praise or complaint? {{ text }}",
            max_tokens=20,
            budget_usd="0.10",
            out="answers.csv",
        )
        last = await job.wait()
        print(f"{last.ok} answered, {last.failed} failed, {last.cost_usd} dollars, in answers.csv")


asyncio.run(main())
