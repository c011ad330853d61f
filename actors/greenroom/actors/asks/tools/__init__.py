"""Python functions that models may call: `tool` makes one of a function, `running` runs what an answer asks for, `talk` is
a question over its rounds, and `asking` and `streaming` ask, run, and ask again.
"""

from greenroom.actors.asks.tools.asking import ToolAsker as ToolAsker
from greenroom.actors.asks.tools.running import ToolCallInvalid as ToolCallInvalid
from greenroom.actors.asks.tools.running import ToolRunner as ToolRunner
from greenroom.actors.asks.tools.running import ToolTerms as ToolTerms
from greenroom.actors.asks.tools.talk import ToolRoundsExceeded as ToolRoundsExceeded
from greenroom.actors.asks.tools.tool import Tool as Tool
from greenroom.actors.asks.tools.tool import Toolbox as Toolbox
from greenroom.actors.asks.tools.tool import ToolInvalid as ToolInvalid
