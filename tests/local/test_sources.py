"""A name leads to a model's files, or to an error that says the remedy, before anything is started."""

import json
import os
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.local.test_gguf import CONTEXT, LLAMA, U32, head, pair

from greenroom.actors.events import ProviderFailed
from greenroom.actors.local import sources
from greenroom.actors.local.sources import Source, find_source, list_local, look_up
from greenroom.actors.settings import LocalServing

NONE = LocalServing()


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(head(LLAMA, CONTEXT))
    return path


def saved(folder: Path, config: object) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_path_in_the_working_directory_or_anywhere(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Source("gguf", str(gguf), 4096)
    assert look_up(str(gguf), NONE) == found
    monkeypatch.chdir(gguf.parent)
    assert look_up("model.gguf", NONE) == found
    monkeypatch.setenv("HOME", str(gguf.parent))
    assert look_up("~/model.gguf", NONE) == found


def test_a_name_of_ones_own(gguf: Path) -> None:
    assert look_up("small", LocalServing(models={"small": str(gguf)})).where == str(gguf)


def test_a_folder_that_transformers_saved(tmp_path: Path) -> None:
    folder = saved(tmp_path / "gpt", {"max_position_embeddings": 1024})
    assert look_up(str(folder), NONE) == Source("transformers", str(folder), 1024)
    other = saved(tmp_path / "other", ["no", "table"])
    assert look_up(str(other), NONE).context_tokens is None


def test_a_model_of_the_hub() -> None:
    assert look_up("hf:org/name-7b.v2", NONE) == Source("transformers", "org/name-7b.v2")


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("nothing.gguf", "there is no model file {folder}/nothing.gguf"),
        ("smal", "did you mean local/small?"),
        ("text.gguf", "text.gguf is not a GGUF file: it begins with b'once'"),
        ("empty", "empty is a folder without config.json"),
        ("broken", "config.json is not JSON"),
        ("hf:name", "hf:name names no model of the Hugging Face hub: write hf:ORG/NAME"),
        ("hf:../../etc", "names no model of the Hugging Face hub"),
        ("pipe", "pipe is not a GGUF file: it is no regular file"),
        ("loop", "loop cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, because: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.gguf").write_text("once upon a time")
    (tmp_path / "empty").mkdir()
    (saved(tmp_path / "broken", {}) / "config.json").write_text("{")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ProviderFailed) as caught:
        look_up(name, LocalServing(models={"small": "small.gguf"}))
    assert caught.value.error.kind == "not_found"
    assert because.format(folder=tmp_path) in caught.value.error.message


def test_models_with_names_are_listed_with_the_window_they_are_served_with(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "find_spec", any_package)
    large = tmp_path / "large.gguf"
    large.write_bytes(head(LLAMA, pair("llama.context_length", U32, struct.pack("<I", 131072))))
    names = {"small": str(gguf), "large": str(large), "lost": str(tmp_path / "lost.gguf")}
    listed, problems = list_local(LocalServing(models=names))
    assert [(model.id, model.context_tokens) for model in listed] == [("small", 4096), ("large", 8192)]
    assert problems == [f"local/lost: there is no model file {tmp_path / 'lost.gguf'}"]
    listed, _ = list_local(LocalServing(models=names, context_tokens=65536))
    assert [(model.id, model.context_tokens) for model in listed] == [("small", 4096), ("large", 65536)]


def any_package(_: str) -> object:
    """Every package is installed."""
    return find_spec("json")


def nothing(_: str) -> None:
    """No package is installed."""


@pytest.mark.parametrize(("kind", "extra"), [("gguf", "local"), ("folder", "transformers")])
def test_what_would_run_it_is_missing(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch, kind: str, extra: str
) -> None:
    monkeypatch.setattr(sources, "find_spec", nothing)
    name = str(gguf if kind == "gguf" else saved(tmp_path / "gpt", {}))
    with pytest.raises(ProviderFailed) as caught:
        find_source(name, NONE)
    assert caught.value.error.kind == "unsupported_capability"
    assert f"pip install 'greenroom[{extra}]'" in caught.value.error.message
