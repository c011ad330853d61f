"""What failures have in common on every wire: kinds by HTTP status, and how an error body is quoted."""

from greenroom.actors.events import ErrorKind

KIND_BY_STATUS: dict[int, ErrorKind] = {
    401: "authentication",
    402: "permission",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "server",
    425: "overloaded",
    429: "rate_limited",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}

MAX_MESSAGE_CHARS = 2_000
MAX_CODE_CHARS = 200


def kind_of_status(status: int) -> ErrorKind:
    """What a status says where the body says nothing more."""
    kind = KIND_BY_STATUS.get(status)
    if kind is not None:
        return kind
    return "server" if status >= 500 else "invalid_request" if status >= 400 else "protocol"


def excerpt(body: bytes, length: int = 200) -> str:
    """The beginning of a body on one line, for a message."""
    return shortened(" ".join(body[: 4 * length].decode("utf-8", "replace").split()), length)


def shortened(text: str, length: int = MAX_MESSAGE_CHARS) -> str:
    """At most `length` characters of a text, and a mark where something is missing."""
    return text if len(text) <= length else f"{text[:length]}…"
