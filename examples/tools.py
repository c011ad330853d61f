"""Functions that the model may call: one that runs in a thread, one on the loop."""

import asyncio
from typing import Annotated

from msgspec import Meta, Struct

from greenroom.runtime import Runtime


class Forecast(Struct):
    city: str
    days: int
    sky: str


def get_weather(city: str, days: Annotated[int, Meta(ge=1, le=14)] = 1) -> Forecast:
    """The weather of a city, for so many days from today."""
    return Forecast(city, days, "fine")


async def get_time(city: str) -> str:
    """The local time in a city."""
    await asyncio.sleep(0)
    return f"noon in {city}"


async def main() -> None:
    async with Runtime() as rt:
        question = "What is the weather in Oslo, and what time is it there?"
        reply = await rt.chat(None, question, tools=[get_weather, get_time], max_rounds=4)
        for result in reply.tool_results:
            print(f"{result.name}({result.arguments}) -> {result.output}")
        print(reply.text)


asyncio.run(main())
