"""What wires have in common whose requests carry a key in one header, and nothing else of the provider's."""

from typing import Literal

from greenroom.actors.settings import Secret

KeyHeader = Literal["authorization", "api-key", "x-goog-api-key"]


class KeyedWire:
    """The base of a `Codec`.

    Args:
        provider: the host's name, for errors.
        key_header: what the key travels in: as a bearer token in `authorization`, as it is in any other.
    """

    request_id_header = "x-request-id"
    service_tier_header = ""

    def __init__(self, provider: str, *, key_header: KeyHeader = "authorization") -> None:
        self._provider = provider
        self._key_header = key_header

    def session_headers(self, key: Secret | None) -> dict[str, str]:
        """See `Codec.session_headers`."""
        if not key:
            return {}
        if self._key_header == "authorization":
            return {"Authorization": f"Bearer {key.reveal()}"}
        return {self._key_header: key.reveal()}
