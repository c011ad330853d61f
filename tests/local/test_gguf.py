"""The head of a GGUF file says what it holds; anything else is told apart, wherever it is cut and whatever it claims."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.local.gguf import GgufHead, NotGguf, read_gguf

U32, I32, F32, STRING, ARRAY, U64 = 4, 5, 6, 8, 9, 10


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def head(*pairs: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + b"".join(pairs)


LLAMA = pair("general.architecture", STRING, text("llama"))
CONTEXT = pair("llama.context_length", U32, struct.pack("<I", 4096))
NUMBERS = pair("general.numbers", ARRAY, struct.pack("<IQ", F32, 3) + bytes(12))
WORDS = pair("general.tags", ARRAY, struct.pack("<IQ", STRING, 2) + text("a") + text("bc"))
VOCABULARY = pair("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 1) + text("x"))


def read(tmp_path: Path, data: bytes) -> GgufHead:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return read_gguf(path)


@pytest.mark.parametrize("version", [2, 3])
def test_what_it_holds(tmp_path: Path, version: int) -> None:
    found = read(tmp_path, head(WORDS, NUMBERS, LLAMA, CONTEXT, version=version))
    assert found == GgufHead("llama", 4096, embeds=False)


def test_a_model_that_pools_makes_vectors(tmp_path: Path) -> None:
    pooling = pair("llama.pooling_type", U32, struct.pack("<I", 1))
    assert read(tmp_path, head(LLAMA, pooling)) == GgufHead("llama", None, embeds=True)
    none = pair("llama.pooling_type", U32, struct.pack("<I", 0))
    assert not read(tmp_path, head(LLAMA, none)).embeds


def test_the_vocabulary_is_not_read(tmp_path: Path) -> None:
    data = head(LLAMA, CONTEXT, VOCABULARY)
    assert read(tmp_path, data[:-9]) == read(tmp_path, data)


def test_a_vocabulary_that_comes_first_is_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, head(VOCABULARY, LLAMA, CONTEXT)).context_tokens == 4096


def test_one_that_is_cut_short_is_told_at_every_offset(tmp_path: Path) -> None:
    data = head(WORDS, NUMBERS, LLAMA, CONTEXT)
    for end in range(len(data)):
        with pytest.raises(NotGguf, match=r"cut short|begins with|claims"):
            read(tmp_path, data[:end])


@pytest.mark.parametrize(
    ("data", "because"),
    [
        (b"<html>", "begins with b'<htm'"),
        (b"", "begins with b''"),
        (head(LLAMA, version=1), "version is 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version is 50331648"),
        (head(), "names no architecture"),
        (head(pair("general.architecture", U32, bytes(4))), "names no architecture"),
        (head(pair("x", 99, bytes(64))), "type 99"),
        (head(pair("x", ARRAY, struct.pack("<IQ", ARRAY, 1) + bytes(64))), "type 9"),
        (head(pair("x", ARRAY, struct.pack("<IQ", F32, 1 << 60))), "claims 1152921504606846976 values"),
        (head(pair("x", STRING, struct.pack("<Q", 1 << 60))), "claims 1152921504606846976 bytes"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 40), "claims 1099511627776 keys"),
    ],
)
def test_what_is_none_is_told_with_the_reason(tmp_path: Path, data: bytes, because: str) -> None:
    with pytest.raises(NotGguf, match=because):
        read(tmp_path, data)


@given(st.binary(max_size=200), st.integers(0, 120))
def test_rubbish_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rubbish: bytes, at: int
) -> None:
    data = head(WORDS, NUMBERS, LLAMA, CONTEXT)
    path = tmp_path_factory.getbasetemp() / "rubbish.gguf"
    path.write_bytes(data[:at] + rubbish + data[at + len(rubbish) :])
    try:
        found = read_gguf(path)
    except NotGguf:
        return
    assert isinstance(found.architecture, str)
