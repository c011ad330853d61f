"""A folder that transformers saved is asked like any other model. Needs torch and transformers[serving], 700 MB and more."""

import asyncio
import importlib.util
import os
import signal
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.inside import database, tree

from greenroom.actors.events import Finished, ProviderFailed, TextDelta
from greenroom.actors.settings import LocalServing, ProviderSettings, Settings, StorageSettings
from greenroom.runtime import Runtime

NEEDED = ("torch", "transformers", "tokenizers", "fastapi", "uvicorn")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of random weights over single bytes, as transformers saves one."""
    if MISSING:
        pytest.skip(f"transformers' server needs {', '.join(MISSING)}")
    transformers: Any = import_module("transformers")
    tokenizers: Any = import_module("tokenizers")
    import_module("torch").manual_seed(7)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", *alphabet]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    byte_level = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    byte_level.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_level, bos_token="<s>", eos_token="<|im_end|>", pad_token="</s>"
    )
    tokenizer.chat_template = TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=0,
        eos_token_id=3,
        pad_token_id=1,
    )
    folder = tmp_path_factory.mktemp("saved")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.timeout(300)
async def test_it_is_asked_whole_and_streamed_and_after_it_was_killed(saved: Path, tmp_path: Path) -> None:
    local = ProviderSettings(
        base_url="http://127.0.0.1/v1",
        free=True,
        stream_end="finish_reason",
        serve=LocalServing(models={"tiny": str(saved)}),
    )
    settings = Settings(
        providers={"local": local}, storage=StorageSettings(url=f"sqlite:///{database(tmp_path)}")
    )
    async with Runtime(settings, environ={}) as rt:
        whole = await rt.chat("local/tiny", "hello", max_tokens=12, temperature=0)
        assert (whole.usage.output_tokens, whole.cost_pusd, whole.finish_reason) == (12, 0, "length")
        async with rt.stream("local/tiny", "hello", max_tokens=12, temperature=0) as events:
            told = [event async for event in events]
        assert isinstance(told[-1], Finished)
        assert any(isinstance(event, TextDelta) for event in told)
        assert events.reply.usage == whole.usage
        line = (await tree(rt).lines.ensure("local")).local
        assert line is not None
        process = line.loaded.models["tiny"].process
        async with aiohttp.ClientSession() as session, session.get(f"{process.base_url}/models") as response:
            assert response.status == 401
        os.kill(process.pid, signal.SIGKILL)
        assert (await rt.chat("local/tiny", "hello", max_tokens=2)).usage.output_tokens == 2
        (saved / "model.safetensors").write_bytes(b"no weights")
        os.kill(line.loaded.models["tiny"].process.pid, signal.SIGKILL)
        with pytest.raises(ProviderFailed, match=r"tiny cannot be loaded: exit status 3"):
            await asyncio.wait_for(rt.chat("local/tiny", "hello", max_tokens=2), 120.0)
