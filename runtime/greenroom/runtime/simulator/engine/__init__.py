"""The simulator's engine: what is answered, and how much it counts. Pure: no wire format, no clock, no socket."""

from greenroom.runtime.simulator.engine.answering import answer, embedded
from greenroom.runtime.simulator.engine.dice import Dice, uniform
from greenroom.runtime.simulator.engine.embedding import MAX_DIMENSIONS
from greenroom.runtime.simulator.engine.likelihood import Likely, likelihoods
from greenroom.runtime.simulator.engine.models import MODELS, Model, catalogue
from greenroom.runtime.simulator.engine.question import (
    Answer,
    CannotAnswer,
    Choice,
    Json,
    Question,
    Schema,
    Tool,
    Turn,
    chunks,
    count_prompt,
    count_tokens,
    pieces,
    token_chunks,
)

__all__ = [
    "MAX_DIMENSIONS",
    "MODELS",
    "Answer",
    "CannotAnswer",
    "Choice",
    "Dice",
    "Json",
    "Likely",
    "Model",
    "Question",
    "Schema",
    "Tool",
    "Turn",
    "answer",
    "catalogue",
    "chunks",
    "count_prompt",
    "count_tokens",
    "embedded",
    "likelihoods",
    "pieces",
    "token_chunks",
    "uniform",
]
