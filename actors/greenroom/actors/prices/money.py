"""Sums of money: integers of pico-dollars inside, `Decimal` dollars at the edges."""

from decimal import Decimal, InvalidOperation

PICO = 10**12
_MAX_USD = 1_000_000


def usd(pico_usd: int) -> Decimal:
    """Pico-dollars as dollars, exact."""
    return Decimal(pico_usd) / PICO


def dollars(pico_usd: int) -> str:
    """Pico-dollars as text, exact and without an exponent: `$0.0125`."""
    return f"${usd(pico_usd).normalize():f}"


def pico_usd(value: Decimal | str | float) -> int:
    """A sum of dollars as somebody wrote it (`"0.50"`, `5`, `0.25`), in pico-dollars, rounded down.

    Raises:
        ValueError: it is no number of dollars from 0 to a million.
    """
    try:
        # By way of its text, a float is what was written and not the binary fraction beside it.
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= _MAX_USD:
        raise ValueError(f"{value!r} is no sum of dollars: a number from 0 to {_MAX_USD}, such as 0.50")
    return int(amount * PICO)
