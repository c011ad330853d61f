"""A job of many lines: `python -m benchmarks._peers.batch_jobs NAME BASE_URL INPUT IN_FLIGHT`.

Each contender answers every line of a JSONL of `custom_id` and `prompt` and writes a JSONL of answers. `job N` does it once, N
being the number of lines, and tells wall and CPU seconds and the peak of resident memory.
"""

import asyncio
import importlib
import importlib.util
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any  # optional packages: where they lack, there are no types to check against

from benchmarks._peers.serving import Figures, Measure, serve, settle_memory

Job = Callable[[Path, Path], Awaitable[None]]  # given the input and a folder of its own
Ask = Callable[[dict[str, object]], Awaitable[object]]  # a request's body to an answer as JSON


def _library(name: str) -> Any:
    return importlib.import_module(name)


async def loop(source: Path, folder: Path, in_flight: int, ask: Ask) -> None:
    """What people write: a task a line, a semaphore, each answer appended to a file; nothing durable, no retries, no costs."""
    settle_memory(in_flight)
    semaphore = asyncio.Semaphore(in_flight)
    with (folder / "out.jsonl").open("w", encoding="utf-8") as file, source.open(encoding="utf-8") as lines:

        async def one(line: dict[str, str]) -> None:
            async with semaphore:
                answer = await ask(
                    {"model": "fast", "messages": [{"role": "user", "content": line["prompt"]}]}
                )
            file.write(json.dumps({"custom_id": line["custom_id"], "response": answer}) + "\n")

        await asyncio.gather(*(one(json.loads(line)) for line in lines))


def plain(base_url: str, in_flight: int) -> Job:
    """aiohttp as it comes."""
    aiohttp = _library("aiohttp")

    async def job(source: Path, folder: Path) -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

            async def ask(body: dict[str, object]) -> object:
                async with session.post(f"{base_url}/chat/completions", json=body) as response:
                    return await response.json()

            await loop(source, folder, in_flight, ask)

    return job


def openai(base_url: str, in_flight: int) -> Job:
    client = _library("openai").AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0)

    async def ask(body: dict[str, object]) -> object:
        return (await client.chat.completions.create(**body)).model_dump()

    return lambda source, folder: loop(source, folder, in_flight, ask)


def litellm(base_url: str, in_flight: int) -> Job:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network when it is imported
    library = _library("litellm")
    library.suppress_debug_info = True

    async def ask(body: dict[str, object]) -> object:
        given = body | {"model": "openai/fast", "api_base": base_url, "api_key": "none", "num_retries": 0}
        return (await library.acompletion(**given)).model_dump()

    return lambda source, folder: loop(source, folder, in_flight, ask)


def _subclass(base: Any, **members: object) -> Any:
    return type("Asking", (base,), members)


def curator(base_url: str, in_flight: int) -> Job:
    """Bespoke Labs' curator: like greenroom it keeps what was answered, and resumes."""
    os.environ |= {
        "TELEMETRY_ENABLED": "false",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    bundled = importlib.util.find_spec("litellm")
    if (
        bundled is not None and bundled.origin is not None
    ):  # else tiktoken asks the network for what litellm has
        tokenizers = Path(bundled.origin).parent / "litellm_core_utils" / "tokenizers"
        os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tokenizers))
    library = _library("bespokelabs.curator")

    def prompt(self: Any, line: dict[str, str]) -> str:
        return line["prompt"]

    def parse(self: Any, line: dict[str, str], response: str) -> dict[str, str]:
        return {"custom_id": line["custom_id"], "response": response}

    made = _subclass(library.LLM, prompt=prompt, parse=parse)

    async def job(source: Path, folder: Path) -> None:
        os.environ["CURATOR_CACHE_DIR"] = str(folder)
        most = 1_000_000_000
        asking = made(
            model_name="fast",
            backend="openai",
            backend_params={
                "base_url": base_url,
                "api_key": "none",
                "max_concurrent_requests": in_flight,
                "max_requests_per_minute": most,
                "max_tokens_per_minute": most,
            },
        )
        with source.open(encoding="utf-8") as lines:
            asked: list[object] = [json.loads(line) for line in lines]
        answered = await asyncio.to_thread(asking, asked)
        answered.dataset.to_json(str(folder / "out.jsonl"))

    return job


def greenroom(base_url: str, in_flight: int) -> Job:
    """Every result and every ledger row on disk before it counts, resumable after `kill -9`."""
    from greenroom.actors.providers.hosts import simulator
    from greenroom.actors.settings import Settings, StorageSettings
    from greenroom.runtime import Runtime

    async def job(source: Path, folder: Path) -> None:
        settings = Settings(
            providers={"sim": simulator(base_url)},
            storage=StorageSettings(url=f"sqlite:///{folder / 'bench.db'}"),
        )
        async with Runtime(settings) as runtime:
            settle_memory(in_flight)
            running = await runtime.batch(source, out=folder / "out.jsonl", concurrency=in_flight)
            last = await running.wait()
            assert last.state == "done", last
            assert not last.failed, last

    return job


JOBS: dict[str, tuple[Callable[[str, int], Job], str]] = {
    "plain": (plain, "aiohttp"),
    "greenroom": (greenroom, "greenroom"),
    "openai": (openai, "openai"),
    "litellm": (litellm, "litellm"),
    "curator": (curator, "bespokelabs-curator"),
}


def measures(job: Job, source: Path) -> Mapping[str, Measure]:
    async def measure(count: int) -> Figures:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            wall, cpu = time.perf_counter(), time.process_time()
            await job(source, folder)
            figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
            with (folder / "out.jsonl").open("rb") as file:
                answered = sum(1 for _ in file)
        assert answered == count, f"{answered} answers to {count} lines"
        return figures | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    return {"job": measure}


if __name__ == "__main__":
    _name, _base_url, _source, _in_flight = sys.argv[1:5]
    _made, _package = JOBS[_name]
    serve(lambda: measures(_made(_base_url, int(_in_flight)), Path(_source)), _package)
