"""What bare clients decode an answer and a chunk into: the fields that a caller wants, typed, by msgspec."""

import msgspec


class Message(msgspec.Struct, gc=False):
    content: str


class Choice(msgspec.Struct, gc=False):
    message: Message
    finish_reason: str


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int


class Answer(msgspec.Struct, gc=False):
    id: str
    choices: list[Choice]
    usage: Usage


class Delta(msgspec.Struct, gc=False):
    content: str | None = None


class ChunkChoice(msgspec.Struct, gc=False):
    delta: Delta
    finish_reason: str | None = None


class Chunk(msgspec.Struct, gc=False):
    choices: list[ChunkChoice]
    usage: Usage | None = None


decode_answer = msgspec.json.Decoder(Answer).decode
decode_chunk = msgspec.json.Decoder(Chunk).decode
