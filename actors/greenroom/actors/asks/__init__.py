"""Several asks as one call to their caller: answers of a type, asked for again, and answers that are kept."""

from greenroom.actors.asks.asks import Asker as Asker
from greenroom.actors.asks.asks import Asks as Asks
