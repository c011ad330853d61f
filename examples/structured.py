"""An answer of a type; one that does not fit is asked for again."""

import asyncio
from typing import Literal

from msgspec import Struct

from greenroom.runtime import AnswerInvalid, Runtime


class Ticket(Struct):
    product: str
    mood: Literal["happy", "neutral", "angry"]
    urgent: bool


async def main() -> None:
    async with Runtime() as rt:
        text = "The new kettle is on fire, and your hotline plays music. Do something!"
        try:
            reply = await rt.chat(None, f"Read this ticket: {text}", response_type=Ticket, reasks=2)
        except AnswerInvalid as failure:
            print(f"no ticket: {failure}; the model said {[one.text for one in failure.rejected]}")
        else:
            print(reply.parsed.product, reply.parsed.mood, reply.parsed.urgent)


asyncio.run(main())
