"""`greenroom simulate`: a provider on this machine, to try greenroom without a key and to rehearse a job."""

import asyncio
import contextlib
import signal
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from greenroom.runtime.simulator import Simulator, SimulatorSettings, Statistics
from greenroom.runtime.simulator.traffic.faults import WIRE_FAULTS

DEFAULT_PORT = 8_399


class LimitName(StrEnum):
    """`--limit-kind`."""

    bucket = "bucket"
    fixed = "fixed"
    sliding = "sliding"


class CountedName(StrEnum):
    """`--tokens-counted`."""

    arrival = "arrival"
    end = "end"


class AdviceName(StrEnum):
    """`--retry-after-form`."""

    ms = "ms"
    seconds = "seconds"
    date = "date"


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
            "tokens_per_s(50), or several joined by +; of a stream the first chunk, paced by the tokens after it."
        ),
    ] = "0",
    chunk_tokens: Annotated[
        str, typer.Option(help="Tokens in one chunk of a stream: 1, or 1-8 for sizes between.")
    ] = "1",
    burst_chunks: Annotated[int, typer.Option(help="How many chunks of a paced stream come together.")] = 1,
    requests_per_min: Annotated[
        int | None,
        typer.Option(
            help="Answer 429 beyond so many requests a minute, with the provider's headers about it."
        ),
    ] = None,
    tokens_per_min: Annotated[
        int | None, typer.Option(help="Answer 429 beyond so many tokens a minute.")
    ] = None,
    limit_kind: Annotated[
        LimitName,
        typer.Option(
            help="How the allowance comes back: steadily, all at the full minute, or after a minute each."
        ),
    ] = LimitName.bucket,
    limit_window: Annotated[
        float,
        typer.Option(
            help="Seconds of its rate that a limit keeps at once; 1 for providers that look by the second."
        ),
    ] = 60.0,
    tokens_counted: Annotated[
        CountedName,
        typer.Option(
            help="When tokens count: prompt and max_tokens on arrival, or what was really used at the end."
        ),
    ] = CountedName.arrival,
    faults: Annotated[
        str,
        typer.Option(
            help="What goes wrong: an error's HTTP status or one of those below, with a share (429:0.05, else 1 in 100) "
            "or for given attempts (503@1, drop:0.5@1-2), some at a given byte (truncate=120). Joined by commas."
        ),
    ] = "",
    fault_retry_after: Annotated[
        float, typer.Option(help="Seconds that the faults 429 and 503 tell a client to wait.")
    ] = 1.0,
    retry_after_form: Annotated[
        AdviceName | None,
        typer.Option(
            help="How Retry-After is sent: with milliseconds as OpenAI does, in seconds, or as a date. "
            "Unless given, as the provider does whose wire is spoken."
        ),
    ] = None,
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
    """Run a provider on this machine: real HTTP, made-up answers, no cost.

    It speaks the wires of OpenAI (/v1/chat/completions, /v1/responses), Anthropic (/v1/messages),
    Gemini (/v1beta/models/...), Bedrock (/model/...) and Ollama (/api/chat), whole and
    streamed, and embeds.

    Rehearse a job before paying for it. Answers depend on the seed and the
    request only, so two runs can be compared.

    Models: fast and smart do what the request looks like (choose a label, fill
    a JSON schema, call a tool, write a few sentences); echo, classify and chat
    always do that one thing.

    \b
    Examples:
      greenroom simulate
          listens on 127.0.0.1:8399 and prints what to set; after that, in
          another terminal: greenroom run tickets.jsonl --model openai/fast
      greenroom simulate --latency "lognormal(p50=0.4,p95=1.2)+per_token(5ms)"
          takes as long as a real provider does
      greenroom simulate --requests-per-min 500 --tokens-per-min 200000
          will the job fit the limits of your account?
      greenroom simulate --faults 429:0.05,500:0.02,drop:0.02,stall
          and will it come through a bad day?
      greenroom simulate --also-serve gpt-5.4-mini --journal requests.jsonl
          stands in for that model and notes every request
      greenroom simulate --port 0 --json
          for programs: prints {{"url": ...}} once it listens

    \b
    Will a job fit the limits and the budget? Stand in for the provider, with
    the limits of your account:
      greenroom simulate --also-serve gpt-5.4-mini --requests-per-min 500
          --tokens-per-min 200000 --latency "lognormal(p50=0.4,p95=1.2)"
    say in greenroom.toml, in the table providers.openai, that it is here and
    costs what it costs there:
      base_url = "http://127.0.0.1:8399/v1"
      price_provider = "openai"
    and run the job, with any key:
      OPENAI_API_KEY=any greenroom run tickets.jsonl --model openai/gpt-5.4-mini
    It tells what it would have cost (answers here are shorter or longer than
    real ones), and Ctrl-C in the first terminal how often a limit was hit and
    how much the busiest minute took.

    \b
    Faults beside 400 to 529, by what happens to an answer:
      {faults}

    What it has done: GET /sim/stats and /sim/journal. Ctrl-C stops it.
    """  # noqa: D301 - Typer keeps the lines after a real backspace as they are
    try:
        settings = SimulatorSettings(
            host=host,
            port=port,
            seed=seed,
            latency=latency,
            chunk_tokens=chunk_tokens,
            burst_chunks=burst_chunks,
            faults=faults,
            fault_retry_after_s=fault_retry_after,
            retry_after_form=None if retry_after_form is None else retry_after_form.value,
            requests_per_min=requests_per_min,
            tokens_per_min=tokens_per_min,
            limit_kind=limit_kind.value,
            limit_window_s=limit_window,
            tokens_counted=tokens_counted.value,
            also_serve=tuple(also_serve or ()),
            api_key=api_key,
            journal_path=journal,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    asyncio.run(_serve(Simulator(settings), as_json=as_json))


_width = max(map(len, WIRE_FAULTS))
_faults = "\n      ".join(f"{name:{_width}}  {meaning}" for name, meaning in WIRE_FAULTS.items())
simulate.__doc__ = (simulate.__doc__ or "").format(faults=_faults)


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
        typer.echo(_summary(simulator.statistics(), settings))


def _greeting(simulator: Simulator, models: list[str]) -> str:
    settings = simulator.settings
    key = "any-key-will-do" if settings.api_key is None else "'the key you gave'"
    lines = [
        f"Simulated provider at {simulator.url} (seed {settings.seed}, latency {settings.latency})",
        f"Models: {', '.join(models)}",
        "",
        "Point a client at it, whichever wire it speaks:",
        f"  export OPENAI_BASE_URL={simulator.openai_base_url} OPENAI_API_KEY={key}",
        f"  export ANTHROPIC_BASE_URL={simulator.url} ANTHROPIC_API_KEY={key}",
        f"  export GOOGLE_GEMINI_BASE_URL={simulator.url} GEMINI_API_KEY={key}",
        f"  export OLLAMA_HOST={simulator.url}",
        "",
        f"What it has done: {simulator.url}/sim/stats",
    ]
    if settings.requests_per_min is not None or settings.tokens_per_min is not None:
        lines.insert(2, f"Limits: {_limits(settings)}")
    if settings.faults:
        lines.insert(2, f"Faults: {settings.faults}")
    if settings.journal_path is not None:
        lines.append(f"Every request:    {settings.journal_path}")
    return "\n".join([*lines, "Ctrl-C stops it."])


def _limits(settings: SimulatorSettings) -> str:
    per_min = [("requests", settings.requests_per_min), ("tokens", settings.tokens_per_min)]
    parts = [f"{count} {what} a minute" for what, count in per_min if count is not None]
    return f"{', '.join(parts)} ({settings.limit_kind}, {settings.limit_window_s:g} s, tokens counted at {settings.tokens_counted})"


def _summary(done: Statistics, settings: SimulatorSettings) -> str:
    by_status = _counts({_status_name(status): count for status, count in done.by_status.items()})
    seen = (
        f"{done.journal_entries} requests in {done.uptime_s:.0f} s ({by_status or 'none'}), "
        f"at most {done.peak_in_flight} at once; {done.prompt_tokens} tokens in, {done.completion_tokens} out."
    )
    busiest = f"Busiest minute: {done.busiest_minute_requests} requests, {done.busiest_minute_tokens} tokens."
    lines = ["", seen, busiest]
    if settings.requests_per_min is not None or settings.tokens_per_min is not None:
        lines.append(f"Refused by the limits ({_limits(settings)}): {_counts(done.limited) or 'none'}.")
    if done.faults:
        lines.append(f"Faults: {_counts(done.faults)}.")
    if done.abandoned:
        lines.append(f"Left by their client in the middle of an answer: {done.abandoned}.")
    return "\n".join(lines)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in counts.items())


def _status_name(status: str) -> str:
    return "no answer" if status == "0" else status


def _why(error: OSError, settings: SimulatorSettings) -> str:
    reason = error.strerror or str(error)
    if settings.journal_path is not None and str(error.filename) == str(settings.journal_path):
        return f"cannot write the journal {settings.journal_path}: {reason}; name a file in a folder you may write to"
    return f"cannot listen on {settings.host}:{settings.port}: {reason}; --port 0 takes a free port"
