"""What a call needs of a local model: to have it loaded, to know where it answers, to say that it is done."""

from contextlib import suppress

from msgspec import Struct, structs
from yarl import URL

from greenroom.actors.events import ProviderError, ProviderFailed
from greenroom.actors.kernel import ActorExited, ActorRef, Overloaded
from greenroom.actors.local.actor import Loaded, Served, Unused, Use
from greenroom.actors.local.sources import failed
from greenroom.actors.providers import WireRequest


class LocalLine(Struct, frozen=True):
    """What reaches the local models: their actor by name, and what outlives it."""

    actor: ActorRef
    loaded: Loaded

    async def use(self, ticket: int, model: str, left_s: float) -> Served:
        """Have a model loaded. `give_back` must follow, whatever comes of it.

        Raises:
            ProviderFailed: there is no such model (`not_found`), it cannot be loaded (`unsupported_capability`), it died
                while it was (`server`), or took too long (`timeout`).
        """
        try:
            answer = await self.actor.call(Use(ticket, model), timeout=left_s)
        except (TimeoutError, ActorExited) as error:
            raise failed("timeout", f"{model} was not loaded in time: {error!r}") from error
        if isinstance(answer, ProviderError):
            raise ProviderFailed(answer)
        return answer

    def give_back(self, ticket: int, now_s: float, outcome: str) -> None:
        """End the use of a model, also one that was asked for and never granted. Nothing here waits or fails."""
        self.loaded.give_back(ticket, now_s, outcome)
        with suppress(Overloaded):
            self.actor.cast(Unused(ticket))


def addressed(wire: WireRequest, served: Served) -> tuple[URL, WireRequest]:
    """Where a request goes to, and the request with the key."""
    headers = {**wire.headers, "Authorization": f"Bearer {served.key.reveal()}"}
    return URL(served.base_url + wire.path, encoded=True), structs.replace(wire, headers=headers)
