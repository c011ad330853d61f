"""An answer as it comes, within a budget."""

import asyncio

from greenroom.runtime import Runtime, TextDelta


async def main() -> None:
    async with (
        Runtime() as rt,
        rt.stream(
            None, "Tell a short story about a lighthouse.", max_tokens=300, budget_usd="0.05"
        ) as events,
    ):
        async for event in events:
            if isinstance(event, TextDelta):
                print(event.text, end="", flush=True)
        print(f"\n{events.reply.usage.output_tokens} tokens, {events.reply.cost_usd} dollars")


asyncio.run(main())
