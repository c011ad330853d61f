"""Ask, run the tools that the answer asks for, and ask again with what they gave, until an answer asks for none."""

from greenroom.actors.asks.asks import Asker, Asks
from greenroom.actors.asks.tools.running import ToolRunner
from greenroom.actors.asks.tools.streaming import ToolStream
from greenroom.actors.asks.tools.talk import Talk
from greenroom.actors.call import Reply, Terms
from greenroom.actors.events import ProviderFailed
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.providers import ChatRequest


class ToolAsker:
    """An `Asker` that runs the tools that answers ask for.

    Args:
        asker: who asks.
        runner: what runs.
    """

    def __init__(self, asker: Asker, runner: ToolRunner) -> None:
        self._asker = asker
        self._runner = runner

    async def chat(self, request: ChatRequest, terms: Terms) -> Reply:
        """Ask until an answer asks for no tool that runs here. `terms` are of all asks together; see `Asks`.

        Raises:
            ToolRoundsExceeded: the model would not come to an end.
            ToolCallInvalid, Exception: of a tool, where its errors are to be raised.
            Refused, ProviderFailed: as `Flow.chat`; the cost and attempts of a failure are of all asks together.

        Cancelling cancels what runs, and settles what was asked; see `Flow.chat` and `Tool.run`.
        """
        talk = self._begin(request, terms)
        while True:
            with talk.asks.one() as left:
                reply = await self._asker.chat(talk.asks.pinned(talk.request), left)
            running = talk.run(reply)
            if running is None:
                return talk.last(reply)
            try:
                while await running.next() is not None:
                    pass
                talk.tell(running.results)
            except ProviderFailed as failure:
                talk.asks.fail(failure)
                raise
            finally:
                await running.aclose()

    def stream(self, request: ChatRequest, terms: Terms) -> EventStream:
        """As `chat`, told as it comes; see `ToolStream`."""
        return ToolStream(self._asker, lambda: self._begin(request, terms))

    def _begin(self, request: ChatRequest, terms: Terms) -> Talk:
        """The beginning of one question, from which on its time counts."""
        return Talk(request, Asks(self._runner.clock, terms), self._runner)
