"""A provider on this machine: to try greenroom without a key, to rehearse a job before paying for it, and for tests.

    async with Simulator(SimulatorSettings(seed=7, latency="lognormal(p50=0.4,p95=1.2)")) as simulator:
        client = OpenAI(base_url=simulator.openai_base_url, api_key="none")

The engine (what is answered) knows no wire, the wires (bytes to questions, answers to bytes) know no clock, and the
server between them decides when what is sent. `greenroom simulate` is the same from the command line.
"""

from greenroom.runtime.simulator.engine import MODELS, Model, count_tokens
from greenroom.runtime.simulator.exchange import Statistics
from greenroom.runtime.simulator.journal import JournalEntry, read_journal
from greenroom.runtime.simulator.server import Simulator
from greenroom.runtime.simulator.settings import SimulatorSettings

__all__ = [
    "MODELS",
    "JournalEntry",
    "Model",
    "Simulator",
    "SimulatorSettings",
    "Statistics",
    "count_tokens",
    "read_journal",
]
