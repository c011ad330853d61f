"""From a question to an answer: which manner of writing a model has, and where its text ends."""

import hashlib
from itertools import takewhile

import msgspec

from greenroom.actors.events import ToolCall
from greenroom.runtime.simulator.engine.dice import Dice
from greenroom.runtime.simulator.engine.embedding import embed
from greenroom.runtime.simulator.engine.instances import invent, named_fields
from greenroom.runtime.simulator.engine.models import Model
from greenroom.runtime.simulator.engine.question import (
    Answer,
    CannotAnswer,
    Choice,
    Question,
    Schema,
    Tool,
    count_prompt,
    count_tokens,
    cut,
)
from greenroom.runtime.simulator.engine.reading import (
    Reading,
    last_user_text,
    pick_label,
    read,
    stems,
    summarise,
)
from greenroom.runtime.simulator.engine.writing import paragraph

MAX_CALLS = 3
_THOUGHTS = (1, 2)


def answer(question: Question, model: Model, *, seed: int) -> Answer:
    """What `model` says to `question`: fixed by the seed and the question's key, never by what came before.

    Args:
        question: The request, free of its wire format.
        model: The catalogue's row of the model that is asked.
        seed: The simulator's seed.

    Raises:
        CannotAnswer: The prompt does not fit the context window, too many output tokens are asked for, or a schema
            cannot be satisfied.
    """
    if question.embed is not None:
        return embedded(question, seed=seed)
    prompt_tokens = count_prompt(question)
    room = _room(question, model, prompt_tokens)
    choices = tuple(_choice(question, model, seed, number, room) for number in range(question.choices))
    return Answer(
        choices, prompt_tokens, sum(choice.tokens + count_tokens(choice.thoughts) for choice in choices)
    )


def embedded(question: Question, *, seed: int) -> Answer:
    """The embedding of each turn; their tokens are those of the texts alone."""
    texts = [turn.text for turn in question.turns]
    vectors = tuple([embed(text, question.embed or 0, seed=seed) for text in texts])
    return Answer((), sum(map(count_tokens, texts)), 0, vectors)


def _room(question: Question, model: Model, prompt_tokens: int) -> int:
    """How many tokens the answer may have: what was asked for, what the model writes at most, what the window leaves."""
    wanted = question.max_tokens
    if wanted is not None and wanted > model.max_output_tokens:
        raise CannotAnswer(
            f"max_tokens is too large: {wanted}. The model {model.id} writes at most {model.max_output_tokens} tokens.",
            param="max_tokens",
            code="invalid_value",
        )
    left = model.context_tokens - prompt_tokens
    if left < 1:
        raise CannotAnswer(
            f"The context window of {model.id} is {model.context_tokens} tokens; these messages have {prompt_tokens}. "
            "Shorten the messages.",
            param="messages",
            code="context_length_exceeded",
        )
    return min(left, model.max_output_tokens if wanted is None else wanted)


def _choice(question: Question, model: Model, seed: int, number: int, room: int) -> Choice:
    if question.thinks:
        thoughts, cut_off = cut(_thoughts(question, seed, number), room)
        room -= count_tokens(thoughts)
        said = Choice("", "length", 0) if cut_off or not room else _said(question, model, seed, number, room)
        return msgspec.structs.replace(said, thoughts=thoughts)
    return _said(question, model, seed, number, room)


def _thoughts(question: Question, seed: int, number: int) -> str:
    return paragraph(last_user_text(question), Dice(seed, "thoughts", question.key, number), _THOUGHTS)


def _said(question: Question, model: Model, seed: int, number: int, room: int) -> Choice:
    dice = Dice(seed, "answer", question.key, number)
    calls = _calls(question, model, dice, number)
    if calls:
        tokens = sum(count_tokens(call.name) + count_tokens(call.arguments) for call in calls)
        if tokens <= room:
            return Choice("", "tool_calls", tokens, calls)
        # A model that runs out of tokens in mid-call delivers arguments that are no JSON.
        arguments = cut(calls[0].arguments, max(0, room - count_tokens(calls[0].name)))[0]
        return Choice("", "length", room, (msgspec.structs.replace(calls[0], arguments=arguments),))
    written, stopped_by = _stopped(_written(question, model, dice), question.stop)
    text, cut_off = cut(written, room)
    if cut_off:
        return Choice(text, "length", count_tokens(text))
    return Choice(text, "stop", count_tokens(text), stopped_by=stopped_by)


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """`text` up to the first stop sequence, which is not delivered, and which one that was."""
    ends = [(at, stop) for stop in stops if stop and (at := text.find(stop)) >= 0]
    if not ends:
        return text, None
    end, stop = min(ends)
    return text[:end], stop


def _written(question: Question, model: Model, dice: Dice) -> str:
    if model.manner == "echo":
        return last_user_text(question)
    reading = read(question)
    if question.schema is not None:
        return _json_text(question.schema, reading, dice)
    if model.manner != "chat" and reading.labels:
        return _classified(reading, dice)
    found = [turn.text for turn in takewhile(lambda turn: turn.role == "tool", reversed(question.turns))]
    if any(found):
        return f"Here is what I found: {summarise(' '.join(reversed(found)), max_words=40)}"
    return paragraph(reading.subject, dice, model.sentences)


def _classified(reading: Reading, dice: Dice) -> str:
    label = pick_label(reading.labels, reading.subject, dice)
    return f"{label}\n{summarise(reading.subject, label)}" if reading.wants_summary else label


def _json_text(schema: Schema, reading: Reading, dice: Dice) -> str:
    shape: Schema = schema
    if not shape and (fields := named_fields(reading.instruction)):
        shape = {"type": "object", "properties": {field: {"type": "string"} for field in fields}}
    value = invent(shape, reading, dice, param="response_format")
    return msgspec.json.encode(value).decode()


def _calls(question: Question, model: Model, dice: Dice, number: int) -> tuple[ToolCall, ...]:
    """The tools to call: what the caller demands, else those whose names the last user message mentions."""
    if not question.tools:
        return ()
    if question.must_call:
        chosen = [tool for tool in question.tools if tool.name == question.must_call]
    else:
        asked = question.turns[-1].role == "user" and model.manner == "any"
        present = stems(last_user_text(question)) if asked else set[str]()
        chosen = [tool for tool in question.tools if stems(tool.name.replace("_", " ")) & present]
        if not chosen and question.must_call == "":
            chosen = [dice.pick(question.tools)]
    reading = read(question)
    most = MAX_CALLS if question.parallel_calls else 1
    return tuple(_call(tool, reading, dice, question, (number, at)) for at, tool in enumerate(chosen[:most]))


def _call(tool: Tool, reading: Reading, dice: Dice, question: Question, place: tuple[int, int]) -> ToolCall:
    no_arguments: Schema = {"type": "object", "properties": {}}
    schema = tool.parameters or no_arguments
    arguments = msgspec.json.encode(invent(schema, reading, dice, param=f"tools ({tool.name})")).decode()
    mark = hashlib.blake2b(question.key + bytes(place), digest_size=12).hexdigest()
    return ToolCall(f"call_{mark}", tool.name, arguments)
