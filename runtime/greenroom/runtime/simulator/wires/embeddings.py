"""Embeddings on the wires that have them: OpenAI's /v1/embeddings, Gemini's embedContent, Ollama's /api/embed, and
Bedrock's /model/MODEL/invoke.

Source: OpenAI's published OpenAPI specification (CreateEmbeddingRequest), the reference of the Gemini API
(models.embedContent, models.batchEmbedContents), Ollama's API documentation, Amazon Bedrock's user guide (Titan Text
Embeddings, Cohere Embed).
"""

import base64
import struct
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from greenroom.runtime.simulator.engine import MAX_DIMENSIONS, Answer, Json, Question, Turn
from greenroom.runtime.simulator.wires.bedrock import BedrockWire
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.gemini import GeminiWire
from greenroom.runtime.simulator.wires.ollama import OllamaWire
from greenroom.runtime.simulator.wires.openai import OpenAIWire
from greenroom.runtime.simulator.wires.reading import Head, convert, digests, json_object, refuse_unknown
from greenroom.runtime.simulator.wires.wire import Asked

MAX_TEXTS = 2_048
_Dimensions = Annotated[int, Meta(ge=1, le=MAX_DIMENSIONS)]
_Text = Annotated[str, Meta(min_length=1)]
_Texts = Annotated[list[_Text], Meta(min_length=1, max_length=MAX_TEXTS)]
_Tokens = Annotated[list[int], Meta(min_length=1)]
_encode = msgspec.json.Encoder().encode


class _OpenAIBody(msgspec.Struct, kw_only=True):
    model: _Text
    input: _Text | list[Any]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: _Dimensions | None = None
    user: str | None = None


class OpenAIEmbeddings(OpenAIWire):
    """See `Wire`."""

    def parse(self, body: bytes, head: Head) -> Asked:
        fields = json_object(body)
        refuse_unknown(fields, frozenset(_OpenAIBody.__struct_fields__))
        asked = convert(fields, _OpenAIBody)
        texts = _openai_texts(asked.input)
        return _asked(
            fields,
            "input",
            model=asked.model,
            texts=texts,
            dimensions=asked.dimensions,
            form=asked.encoding_format or "float",
        )

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        packed = asked.form == "base64"
        data = [
            {"object": "embedding", "index": at, "embedding": _base64(vector) if packed else vector}
            for at, vector in enumerate(answer.vectors)
        ]
        usage = {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens}
        return _encode({"object": "list", "data": data, "model": asked.question.model, "usage": usage})


class _Part(msgspec.Struct):
    text: str


class _Content(msgspec.Struct):
    parts: Annotated[list[_Part], Meta(min_length=1)]
    role: str | None = None


class _GeminiBody(msgspec.Struct, kw_only=True, rename="camel"):
    content: _Content
    model: str | None = None
    task_type: str | None = None
    title: str | None = None
    output_dimensionality: _Dimensions | None = None


class _GeminiBatch(msgspec.Struct):
    requests: Annotated[list[_GeminiBody], Meta(min_length=1, max_length=100)]


class GeminiEmbeddings(GeminiWire):
    """See `Wire`. One text or a batch of them, by the verb in the path."""

    def parse(self, body: bytes, head: Head) -> Asked:
        model, _, verb = head.path.partition("/models/")[2].rpartition(":")
        fields = json_object(body)
        batch = verb == "batchEmbedContents"
        bodies = convert(fields, _GeminiBatch).requests if batch else [convert(fields, _GeminiBody)]
        texts = ["".join([part.text for part in each.content.parts]) for each in bodies]
        sizes = {each.output_dimensionality for each in bodies}
        if len(sizes) > 1:
            raise WireError(400, "The simulator embeds a batch in one dimensionality.", param="requests")
        name = "requests" if batch else "content"
        return _asked(
            fields,
            name,
            model=model,
            texts=texts,
            dimensions=sizes.pop(),
            form="batch" if batch else "one",
        )

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        vectors = [{"values": vector} for vector in answer.vectors]
        return _encode({"embeddings": vectors} if asked.form == "batch" else {"embedding": vectors[0]})


class _OllamaBody(msgspec.Struct, kw_only=True):
    model: _Text
    input: str | Annotated[list[str], Meta(max_length=MAX_TEXTS)]
    dimensions: _Dimensions | None = None
    truncate: bool | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None


class OllamaEmbeddings(OllamaWire):
    """See `Wire`."""

    def parse(self, body: bytes, head: Head) -> Asked:
        fields = json_object(body)
        refuse_unknown(fields, frozenset(_OllamaBody.__struct_fields__))
        asked = convert(fields, _OllamaBody)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        model = asked.model.removesuffix(":latest")
        return _asked(fields, "input", model=model, texts=texts, dimensions=asked.dimensions)

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        return _encode(
            {
                "model": asked.question.model,
                "embeddings": answer.vectors,
                "total_duration": 0,
                "load_duration": 0,
                "prompt_eval_count": answer.prompt_tokens,
            }
        )


class _TitanBody(msgspec.Struct, rename="camel"):
    input_text: _Text
    dimensions: _Dimensions | None = None
    normalize: bool | None = None


class _CohereBody(msgspec.Struct):
    texts: Annotated[list[_Text], Meta(min_length=1, max_length=96)]
    input_type: Literal["search_document", "search_query", "classification", "clustering"]
    truncate: Literal["NONE", "START", "END"] | None = None
    embedding_types: list[Literal["float"]] | None = None
    output_dimension: _Dimensions | None = None


class BedrockEmbeddings(BedrockWire):
    """See `Wire`. Titan's one text or Cohere's many, whatever the model is called."""

    def parse(self, body: bytes, head: Head) -> Asked:
        model = head.path.removeprefix("/model/").removesuffix("/invoke")
        fields = json_object(body)
        if "texts" in fields:
            many = convert(fields, _CohereBody)
            form = "many"
            return _asked(
                fields, "texts", model=model, texts=many.texts, dimensions=many.output_dimension, form=form
            )
        one = convert(fields, _TitanBody)
        texts = [one.input_text]
        return _asked(fields, "inputText", model=model, texts=texts, dimensions=one.dimensions, form="one")

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        if asked.form == "many":
            return _encode({"embeddings": {"float": answer.vectors}, "response_type": "embeddings_by_type"})
        return _encode({"embedding": answer.vectors[0], "inputTextTokenCount": answer.prompt_tokens})


def _asked(
    fields: dict[str, Json],
    name: str,
    *,
    model: str,
    texts: list[str],
    dimensions: int | None,
    form: str = "",
) -> Asked:
    prompt_sha256, key = digests(fields, name, ("encoding_format", "user", "keep_alive", "options"))
    turns = tuple([Turn("user", text) for text in texts])
    question = Question(model=model, turns=turns, key=key, embed=dimensions or 0)
    return Asked(question, prompt_sha256, form=form)


def _openai_texts(given: str | list[Any]) -> list[str]:
    """The texts of an input; those given as tokens become words of their numbers, which embed as well as any."""
    if isinstance(given, str):
        return [given]
    fields: dict[str, Json] = {"input": given}
    if given and all(isinstance(item, int) for item in given):
        return [_numbers(convert(fields, _OneOfTokens).input)]
    if given and all(isinstance(item, list) for item in given):
        return [_numbers(tokens) for tokens in convert(fields, _ManyOfTokens).input]
    return convert(fields, _ManyTexts).input


class _OneOfTokens(msgspec.Struct):
    input: _Tokens


class _ManyOfTokens(msgspec.Struct):
    input: Annotated[list[_Tokens], Meta(max_length=MAX_TEXTS)]


class _ManyTexts(msgspec.Struct):
    input: _Texts


def _numbers(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def _base64(vector: list[float]) -> str:
    """Little-endian float32, as OpenAI packs it."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
