"""One way to ask, whole or streamed: who compares the two need not know which it was."""

from typing import Any

from greenroom.runtime import Reply, Runtime
from greenroom.runtime.options import Messages


async def ask(
    rt: Runtime, model: str | None, messages: Messages = "Well?", *, streamed: bool, **options: Any
) -> Reply:
    """The whole answer, put together here where it is streamed."""
    if streamed:
        async with rt.stream(model, messages, **options) as events:
            return await events.finish()
    reply: Reply = await rt.chat(model, messages, **options)
    return reply
