"""Tiny models of random weights, and what runs them. Needs the packages xllamacpp, gguf and numpy."""

import importlib.util
from pathlib import Path

import pytest
from tests.integration.llama_server import make_model

from greenroom.actors.settings import Limits, LocalServing, ProviderSettings

NEEDED = ("xllamacpp", "gguf", "numpy")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `one.gguf`, `two.gguf`, `endless.gguf`, `vectors.gguf`, and `cut.gguf`, half of one."""
    if MISSING:
        pytest.skip(f"llama.cpp's server needs {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("models")
    for name in ("one", "two"):
        make_model(folder / f"{name}.gguf")
    make_model(folder / "endless.gguf", context=100_000, ends=False)
    make_model(folder / "vectors.gguf", embeds=True)
    whole = (folder / "one.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture
def local(models: Path) -> ProviderSettings:
    """The provider, with a name for each of the models."""
    names = {path.stem: str(path) for path in models.glob("*.gguf")}
    return ProviderSettings(
        base_url="http://127.0.0.1/v1",
        free=True,
        stream_end="finish_reason",
        limits=Limits(concurrency=2),
        serve=LocalServing(models=names, context_tokens=2048, threads=1),
    )
