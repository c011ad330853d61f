"""The simulator's models: a small catalogue, and room for names that a rehearsed job already uses."""

import msgspec


class Model(msgspec.Struct, frozen=True):
    """A model that the simulator offers.

    `manner` is what it does with a request: "any" looks at the request (labels to choose from, a schema, tools, else a
    short text), the others always do the same. `sentences` bounds the length of free text.
    """

    id: str
    manner: str
    about: str
    context_tokens: int
    max_output_tokens: int
    sentences: tuple[int, int] = (1, 3)
    created: int = 1_767_225_600


MODELS: tuple[Model, ...] = (
    Model(
        "fast",
        "any",
        "does what the request looks like: classify, JSON, tools, a short text",
        128_000,
        16_384,
    ),
    Model("smart", "any", "as fast, with longer answers", 400_000, 32_768, sentences=(4, 7)),
    Model("echo", "echo", "repeats the last user message", 128_000, 128_000),
    Model("classify", "classify", "answers with one of the labels in the prompt", 32_000, 4_096),
    Model("chat", "chat", "a short paragraph made of the prompt's words", 128_000, 16_384, sentences=(2, 4)),
)


def catalogue(also_serve: tuple[str, ...] = ()) -> dict[str, Model]:
    """All models by id; names in `also_serve` (such as "gpt-5.4-mini") behave as `fast` does."""
    models = {model.id: model for model in MODELS}
    for name in also_serve:
        models.setdefault(
            name, msgspec.structs.replace(models["fast"], id=name, about="stands in for that model")
        )
    return models
