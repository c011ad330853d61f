"""A conversation that is on disk after every turn: run it again, and it remembers."""

import asyncio

from greenroom.runtime import Runtime


async def main() -> None:
    async with Runtime() as rt:
        session = await rt.session("example", system="Answer in one sentence.", budget_usd="0.50")
        said = len(await session.history())
        print(f"{said} messages so far")
        print((await session.say("My name is Ada. What rhymes with it?")).text)


asyncio.run(main())
