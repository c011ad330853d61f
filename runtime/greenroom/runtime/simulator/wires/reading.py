"""What reading a request has in common on all wires: JSON, digests, and complaints that name a field."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import ClassVar, TypeVar

import msgspec

from greenroom.runtime.simulator.engine import Json
from greenroom.runtime.simulator.wires.errors import WireError, bad_field

_T = TypeVar("_T")


class Head(msgspec.Struct, frozen=True):
    """What a wire may look at beside the body; header names compare without case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


class Part(msgspec.Struct, tag_field="type"):
    """One part of a message's content, on wires whose parts carry their `type`: its pictures, and the words that count."""

    images: ClassVar[int] = 0

    def words(self) -> str:
        return ""


class Text(Part):
    """A part that is nothing but its text, whatever the wire calls it."""

    text: str

    def words(self) -> str:
        return self.text


class Refusal(Part, tag="refusal"):
    """OpenAI's part for a model's refusal."""

    refusal: str

    def words(self) -> str:
        return self.refusal


def json_object(body: bytes) -> dict[str, Json]:
    """The body as a JSON object; a `WireError` 400 where it is none."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(400, f"The body of the request is no JSON that can be read: {error}.") from None
    if not isinstance(fields, dict):
        raise WireError(400, "The body of the request must be a JSON object.")
    return fields  # pyright: ignore[reportUnknownVariableType]  # msgspec's keys are strings, its values JSON


def convert(fields: dict[str, Json], shape: type[_T]) -> _T:
    """The fields as a Struct; a `WireError` 400 that names the field which is to blame."""
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise bad_field(error) from None


def refuse_unknown(fields: Iterable[str], known: frozenset[str]) -> None:
    """A `WireError` 400 for the first field that the wire does not have."""
    for name in fields:
        if name not in known:
            raise WireError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def frame_bytes(fields: Mapping[str, Json], names: Iterable[str]) -> int:
    """The size, as compact JSON, of what a request sets around its messages: those of `names` that say something."""
    framed = [fields[name] for name in names if fields.get(name)]
    return len(msgspec.json.encode(framed)) if framed else 0


def digests(fields: dict[str, Json], messages: str, beside: Iterable[str]) -> tuple[str, bytes]:
    """What identifies a prompt, and a question.

    Args:
        fields: The request; changed: the messages and `beside` are taken out.
        messages: The name of the field that holds the messages.
        beside: Fields that are no part of the question: however they are set, the answer is the same.

    Returns:
        The hexadecimal SHA-256 of the messages as compact JSON with sorted keys, and a digest of all that may shape
        the answer.
    """
    prompt_sha256 = hashlib.sha256(msgspec.json.encode(fields.pop(messages), order="sorted"))
    for name in beside:
        fields.pop(name, None)
    key = prompt_sha256.copy()
    key.update(msgspec.json.encode(fields, order="sorted"))
    return prompt_sha256.hexdigest(), key.digest()
