"""What a job may cost: said before it begins, bound by a budget, and confirmed where it is much."""

import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from msgspec import Struct
from rich.table import Table

from greenroom.actors.batch import ModelShare, OpenJob, Scan
from greenroom.actors.call.bounds import ASSUMED_OUTPUT_TOKENS
from greenroom.actors.catalog import Alias, Route, UnknownModel, find_route, is_auto
from greenroom.actors.events import Usage
from greenroom.actors.prices import PriceTable, dollars, pico_usd, usd
from greenroom.actors.providers.hosts import SIMULATOR, simulator
from greenroom.actors.settings import Settings
from greenroom.runtime.cli.inputs import Options
from greenroom.runtime.cli.output import EXIT_REFUSED, fail, money, note, notes, print_json, tables
from greenroom.runtime.config import prices_folder
from greenroom.runtime.discovery import Chosen

_LIKELY_OUTPUT_TOKENS = 256


class Estimate(Struct, frozen=True, kw_only=True):
    """What a job would ask of one model.

    `at_most_usd` bounds what the first attempts of all lines can be charged: every byte a token, every answer as long
    as its `max_tokens` allows. It is null where some line sets none and no budget demands one. Both are where the model
    is chosen line by line.
    """

    model: str
    lines: int
    input_tokens: int
    likely_usd: Decimal | None
    at_most_usd: Decimal | None


class Spending:
    """What a job may cost. Blocks: it loads the price table.

    Args:
        found: the job's input.
        chosen: the providers in use.
        aliases: the configured ones.
        fallbacks: models that lines may go on to. They are looked up, and not reckoned with.
        capped: whether a budget applies, so that every answer has a bound.

    Raises:
        UnknownModel, Unpriced: as `Resolve` does.
    """

    def __init__(
        self,
        found: Scan,
        chosen: Chosen,
        aliases: Mapping[str, Alias],
        fallbacks: Sequence[str] = (),
        *,
        capped: bool,
    ) -> None:
        self.found = found
        self._capped = capped
        self._simulated = chosen.simulated
        self._left_to_choice = [name for name in found.models if is_auto(name)]
        named = [name for name in found.models if not is_auto(name)]
        routes = _routes((*named, *fallbacks), chosen, aliases)
        self._routes = {name: routes[name] for name in named}

    @property
    def estimates(self) -> list[Estimate]:
        """Model by model. What is left to a choice has no price before the choice."""
        told = [self._estimate(name, route) for name, route in self._routes.items()]
        for name in self._left_to_choice:
            share = self.found.models[name]
            told.append(
                Estimate(
                    model=name,
                    lines=share.lines,
                    input_tokens=share.input_tokens,
                    likely_usd=None,
                    at_most_usd=None,
                )
            )
        return told

    @property
    def least_pusd(self) -> int:
        """What no call of the job can be bounded below, as far as it is known."""
        if self._left_to_choice:
            return 0
        return min(
            route.price.bound_pusd(share.smallest_input, share.smallest_output or ASSUMED_OUTPUT_TOKENS)
            for share, route in ((self.found.models[name], route) for name, route in self._routes.items())
        )

    def dry_run(self, *, as_json: bool) -> None:
        """Say what would be asked, how many tokens, and what it would cost."""
        if as_json:
            found = self.found
            print_json({"lines": found.lines, "skipped": found.bad_count, "models": self.estimates})
            return
        table = Table("model", title="What would be asked (nothing was sent)")
        for heading in ("lines", "input tokens", "likely cost", "at most"):
            table.add_column(heading, justify="right")
        for one in self.estimates:
            table.add_row(one.model, f"{one.lines:,}", f"{one.input_tokens:,}", *_costs(one))
        tables.print(table)
        note(f"likely: about 4 bytes a token and {_LIKELY_OUTPUT_TOKENS} tokens an answer")
        note(
            "at most: a token a byte, and every answer as long as it may be; what fails may be charged on top"
        )

    def check_budget(self, budget_pusd: int | None) -> None:
        """Refuse a budget that not even one call fits into; say what a budget demands of answers.

        Raises:
            typer.Exit: 3; it says what would be needed.
        """
        if budget_pusd is not None and budget_pusd < self.least_pusd:
            bounds = [one.at_most_usd for one in self.estimates]
            at_most = sum((bound for bound in bounds if bound is not None), Decimal(0))
            fail(
                f"--budget {dollars(budget_pusd)} is below one call: the cheapest line may cost up to "
                f"{dollars(self.least_pusd)}, all {self.found.lines} lines at most {money(at_most)}. Raise it, or "
                f"bound the answers with a lower --max-tokens",
                EXIT_REFUSED,
            )
        if self._capped and any(share.unbounded for share in self.found.models.values()):
            note(
                f"a budget applies: answers without a bound of their own get max_tokens {ASSUMED_OUTPUT_TOKENS}"
            )

    def confirm(self, opened: OpenJob, settings: Settings, options: Options) -> None:
        """Ask whether a dear job shall begin, where somebody is there to answer. Blocks until then.

        Raises:
            typer.Exit: 3; it shall not.
        """
        above_pusd = pico_usd(settings.budgets.confirm_above_usd)
        left = Decimal(max(0, opened.scan.lines - opened.finished)) / max(1, opened.scan.lines)
        likely = (
            sum((one.likely_usd for one in self.estimates if one.likely_usd is not None), Decimal(0)) * left
        )
        most_pusd = opened.request.budget_pusd
        if options.yes or self._simulated or (most_pusd is not None and most_pusd <= above_pusd):
            return
        if not self._left_to_choice and likely <= usd(above_pusd):
            return
        if not (sys.stdin.isatty() and notes.is_terminal):
            return
        said = f"this is likely to cost about {money(likely)}"
        if self._left_to_choice:
            said += ", and what is chosen for each line of AUTO, which nobody can tell before"
        answer = _ask(f"{said}. Go on? (y/N) ")
        if answer.strip().lower() not in {"y", "yes"}:
            why = "--yes skips the question, budgets.confirm_above_usd sets when it is asked"
            fail(f"nothing was sent; {why}", EXIT_REFUSED)

    def _estimate(self, name: str, route: Route) -> Estimate:
        share, price = self.found.models[name], route.price
        likely = Usage(share.input_tokens, share.lines * _LIKELY_OUTPUT_TOKENS)
        # Tiers are by request, so the price is asked for an average one.
        average = Usage(likely.input_tokens // share.lines, _LIKELY_OUTPUT_TOKENS)
        return Estimate(
            model=f"{route.provider}/{route.model}" if name != route.model else name,
            lines=share.lines,
            input_tokens=share.input_tokens,
            likely_usd=usd(price.cost_pusd(average) * share.lines),
            at_most_usd=self._at_most_usd(share, route),
        )

    def _at_most_usd(self, share: ModelShare, route: Route) -> Decimal | None:
        if share.unbounded and not self._capped:
            return None
        output_tokens = share.max_output_tokens + share.unbounded * ASSUMED_OUTPUT_TOKENS
        return usd(
            route.price.bound_of_many_pusd(
                share.lines, share.input_bound, output_tokens, largest_input=share.largest_input
            )
        )


def _costs(one: Estimate) -> tuple[str, str]:
    """What is likely, and at most, in words for people."""
    if one.likely_usd is None:
        return "chosen line by line", ""
    at_most = "no bound: set --max-tokens" if one.at_most_usd is None else money(one.at_most_usd)
    return money(one.likely_usd), at_most


def _ask(question: str) -> str:
    # Reading blocks and cannot be cancelled, so Ctrl-C has to raise rather than to cancel. Nothing else goes on yet.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return notes.input(question)
    except EOFError:
        return ""
    finally:
        signal.signal(signal.SIGINT, before)


def _routes(names: Iterable[str], chosen: Chosen, aliases: Mapping[str, Alias]) -> dict[str, Route]:
    providers = dict(chosen.providers)
    if chosen.simulated:
        providers.setdefault(SIMULATOR, simulator("http://127.0.0.1"))
    if not providers:
        raise UnknownModel("no provider is configured")
    prices = PriceTable.load(prices_folder())
    return {name: find_route(name, providers, prices, aliases=aliases) for name in names}
