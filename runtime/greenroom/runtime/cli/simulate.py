"""`greenroom simulate`: a provider on this machine, to try greenroom without a key and to rehearse a job."""

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from greenroom.runtime.simulator import Simulator, SimulatorSettings, Statistics

DEFAULT_PORT = 8_399


class _Ready(msgspec.Struct):
    """What `--json` prints once the simulator listens."""

    url: str
    openai_base_url: str
    models: list[str]
    seed: int


def simulate(
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Beyond this machine only with --api-key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one and says which.")
    ] = DEFAULT_PORT,
    seed: Annotated[
        int, typer.Option(help="Another seed gives other answers and latencies; the same one the same.")
    ] = 0,
    latency: Annotated[
        str,
        typer.Option(
            help="How long an answer takes: 50ms, uniform(0.1,0.4), lognormal(p50=0.4,p95=1.2), per_token(20ms), "
            "or several joined by +."
        ),
    ] = "0",
    also_serve: Annotated[
        list[str] | None,
        typer.Option("--also-serve", help="A further model id, such as the one your job uses. Repeatable."),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="GREENROOM_SIMULATOR_KEY", help="Answer 401 to everybody who does not send this key."
        ),
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(help="Append one JSON line for each request to this file, before it is answered."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON line with the address when ready, and nothing else."),
    ] = False,
) -> None:
    r"""Run a provider on this machine: OpenAI's wire over real HTTP, with made-up answers that cost nothing.

    Rehearse a job before paying for it. Answers depend on the seed and the request only, so two runs can be compared.

    Models: fast and smart do what the request looks like (choose a label, fill a JSON schema, call a tool, write
    a few sentences); echo, classify and chat always do that one thing.

    \b
    Examples:
      greenroom simulate
          listens on 127.0.0.1:8399; then: greenroom run tickets.jsonl --model sim/fast
      greenroom simulate --latency "lognormal(p50=0.4,p95=1.2)+per_token(5ms)"
          takes as long as a real provider does
      greenroom simulate --also-serve gpt-5-mini --journal requests.jsonl
          stands in for that model and notes every request
      greenroom simulate --port 0 --json
          for programs: prints {"url": ...} once it listens

    What it has done: GET /sim/stats and /sim/journal. Ctrl-C stops it.
    """
    try:
        settings = SimulatorSettings(
            host=host,
            port=port,
            seed=seed,
            latency=latency,
            also_serve=tuple(also_serve or ()),
            api_key=api_key,
            journal_path=journal,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    asyncio.run(_serve(Simulator(settings), as_json=as_json))


async def _serve(simulator: Simulator, *, as_json: bool) -> None:
    """Serves until SIGINT or SIGTERM; a second signal while stopping ends the process at once."""
    settings = simulator.settings
    try:
        await simulator.start()
    except OSError as error:
        raise typer.BadParameter(_why(error, settings)) from None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with contextlib.aclosing(simulator):
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        models = [model.id for model in simulator.models]
        if as_json:
            ready = _Ready(simulator.url, simulator.openai_base_url, models, settings.seed)
            typer.echo(msgspec.json.encode(ready))
        else:
            typer.echo(_greeting(simulator, models))
        await stop.wait()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if not as_json:
        typer.echo(_summary(simulator.statistics()))


def _greeting(simulator: Simulator, models: list[str]) -> str:
    settings = simulator.settings
    key = "any-key-will-do" if settings.api_key is None else "'the key you gave'"
    lines = [
        f"Simulated provider at {simulator.url} (seed {settings.seed}, latency {settings.latency})",
        f"Models: {', '.join(models)}",
        "",
        "Point a client at it:",
        f"  export OPENAI_BASE_URL={simulator.openai_base_url}",
        f"  export OPENAI_API_KEY={key}",
        "",
        f"What it has done: {simulator.url}/sim/stats",
    ]
    if settings.journal_path is not None:
        lines.append(f"Every request:    {settings.journal_path}")
    return "\n".join([*lines, "Ctrl-C stops it."])


def _summary(done: Statistics) -> str:
    by_status = ", ".join(f"{count} x {_status_name(status)}" for status, count in done.by_status.items())
    return (
        f"\n{done.journal_entries} requests in {done.uptime_s:.0f} s ({by_status or 'none'}), "
        f"at most {done.peak_in_flight} at once; {done.prompt_tokens} tokens in, {done.completion_tokens} out."
    )


def _status_name(status: str) -> str:
    return "no answer" if status == "0" else status


def _why(error: OSError, settings: SimulatorSettings) -> str:
    reason = error.strerror or str(error)
    if settings.journal_path is not None and str(error.filename) == str(settings.journal_path):
        return f"cannot write the journal {settings.journal_path}: {reason}; name a file in a folder you may write to"
    return f"cannot listen on {settings.host}:{settings.port}: {reason}; --port 0 takes a free port"
