"""Names of one's own for models, as the configuration gives them, and what they come to in the end."""

from collections.abc import Mapping

from msgspec import Struct

from greenroom.actors.catalog.requirements import AUTO, is_auto
from greenroom.actors.settings import AliasSettings


class Alias(Struct, frozen=True):
    """What an alias stands for: the model that is asked, and those that take its place when it fails, in their order.

    `free_to_paid` is whether a model that costs may take the place of one that does not.
    """

    models: tuple[str, ...]
    free_to_paid: bool = False


class WrongAlias(ValueError):
    """An alias that comes to nothing: it leads back to itself, or has a name that it cannot have."""


def flattened(aliases: Mapping[str, str | AliasSettings]) -> dict[str, Alias]:
    """Every alias with the models that it comes to, aliases within it replaced by theirs.

    Raises:
        WrongAlias: naming the alias, and what is wrong with it.
    """
    for name in aliases:
        if not name.strip() or "/" in name or is_auto(name):
            raise WrongAlias(
                f"aliases.{name}: an alias is a word of its own, without a slash, and not {AUTO}"
            )
    return {name: _alias(name, aliases, ()) for name in aliases}


def _alias(name: str, aliases: Mapping[str, str | AliasSettings], above: tuple[str, ...]) -> Alias:
    if name in above:
        raise WrongAlias(f"aliases.{name} leads back to itself: {' -> '.join((*above, name))}")
    said = aliases[name]
    settings = AliasSettings(models=(said,)) if isinstance(said, str) else said
    models: dict[str, None] = {}
    free_to_paid = settings.free_to_paid
    for model in settings.models:
        if model in aliases:
            inner = _alias(model, aliases, (*above, name))
            models |= dict.fromkeys(inner.models)
            free_to_paid = free_to_paid or inner.free_to_paid
        elif model.strip():
            models[model] = None
    if not models:
        raise WrongAlias(f"aliases.{name} names no model: write provider/model, or a list of them")
    return Alias(tuple(models), free_to_paid)
