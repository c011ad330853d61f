import asyncio

from greenroom.runtime import Runtime


async def main() -> None:
    async with Runtime() as rt:
        reply = await rt.chat(None, "Why is the sky blue?", max_tokens=200)
        print(reply.text, reply.usage.output_tokens, reply.cost_usd)


asyncio.run(main())
