"""Python functions that models may call: `tool` makes one of a function, `running` runs what an answer asks for, `talk` is
a question over its rounds, and `asking` and `streaming` ask, run, and ask again.
"""

from greenroom.actors.tools.asking import ToolAsker as ToolAsker
from greenroom.actors.tools.running import ToolCallInvalid as ToolCallInvalid
from greenroom.actors.tools.running import ToolRunner as ToolRunner
from greenroom.actors.tools.running import ToolTerms as ToolTerms
from greenroom.actors.tools.talk import ToolRoundsExceeded as ToolRoundsExceeded
from greenroom.actors.tools.tool import Tool as Tool
from greenroom.actors.tools.tool import Toolbox as Toolbox
from greenroom.actors.tools.tool import ToolInvalid as ToolInvalid
