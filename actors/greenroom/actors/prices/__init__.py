"""What tokens cost, exactly: integers inside, dollars as `Decimal` only at the edges; published tables and own prices."""

from greenroom.actors.prices.configured import configured_price as configured_price
from greenroom.actors.prices.money import PICO as PICO
from greenroom.actors.prices.money import dollars as dollars
from greenroom.actors.prices.money import pico_usd as pico_usd
from greenroom.actors.prices.money import usd as usd
from greenroom.actors.prices.price import FREE as FREE
from greenroom.actors.prices.price import Price as Price
from greenroom.actors.prices.price import Rates as Rates
from greenroom.actors.prices.price import rates as rates
from greenroom.actors.prices.refresh import PricesNotRefreshed as PricesNotRefreshed
from greenroom.actors.prices.refresh import refresh_prices as refresh_prices
from greenroom.actors.prices.table import PriceTable as PriceTable
