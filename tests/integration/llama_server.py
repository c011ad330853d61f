"""llama.cpp's own HTTP server with a tiny model of random weights: `python llama_server.py FOLDER KEY PORT`.

Needs the packages xllamacpp, gguf and numpy. The model is made here, seeded: no weights are downloaded. It prints a
line once it listens, and serves until its standard input ends.
"""

# The three packages are no dependencies of the project, so their types are unknown wherever they are not installed.
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false
import importlib
import sys
from pathlib import Path

DIM, FF, LAYERS, HEADS, CONTEXT = 64, 128, 2, 4, 2048
SPECIAL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
STOP = SPECIAL.index("<|im_end|>")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"


def make_model(path: Path, *, context: int = CONTEXT, ends: bool = True, embeds: bool = False) -> None:
    """Write a model of random weights. `ends`: it stops by itself now and then; `embeds`: it makes vectors, not text."""
    import numpy as np
    from gguf import GGUFWriter, PoolingType, TokenType

    printable = ["\u2581", *(chr(code) for code in range(33, 127))]
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *printable]
    types = [TokenType.UNKNOWN] + [TokenType.CONTROL] * 4
    types += [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(printable)
    random = np.random.default_rng(7)

    def weights(*shape: int, scale: float = 0.08) -> "np.ndarray":
        return (random.standard_normal(shape) * scale).astype(np.float32)

    model = GGUFWriter(str(path), "llama")
    model.add_context_length(context)
    model.add_embedding_length(DIM)
    model.add_block_count(LAYERS)
    model.add_feed_forward_length(FF)
    model.add_head_count(HEADS)
    model.add_layer_norm_rms_eps(1e-5)
    model.add_rope_dimension_count(DIM // HEADS)
    model.add_vocab_size(len(tokens))
    model.add_file_type(0)
    if embeds:
        model.add_pooling_type(PoolingType.MEAN)
    model.add_tokenizer_model("llama")
    model.add_tokenizer_pre("default")
    model.add_token_list([token.encode() for token in tokens])
    model.add_token_scores([0.0 if kind != TokenType.NORMAL else -1.0 for kind in types])
    model.add_token_types([int(kind) for kind in types])
    model.add_bos_token_id(1)
    model.add_eos_token_id(STOP)
    model.add_chat_template(TEMPLATE)
    # One constant direction of the embedding lets the head prefer printable pieces, and stop now and then.
    embedding, head = weights(len(tokens), DIM, scale=1.0), weights(len(tokens), DIM, scale=0.15)
    embedding[:, 0] = 1.0
    head[:, 0] = -6.0
    head[-len(printable) :, 0] = 2.0
    head[STOP, 0] = 4.0 if ends else -60.0
    model.add_tensor("token_embd.weight", embedding)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            model.add_tensor(f"{block}{norm}.weight", np.ones(DIM, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            model.add_tensor(f"{block}{name}.weight", weights(DIM, DIM))
        model.add_tensor(f"{block}ffn_gate.weight", weights(FF, DIM))
        model.add_tensor(f"{block}ffn_up.weight", weights(FF, DIM))
        model.add_tensor(f"{block}ffn_down.weight", weights(DIM, FF))
    model.add_tensor("output_norm.weight", np.ones(DIM, np.float32))
    model.add_tensor("output.weight", head)
    model.write_header_to_file()
    model.write_kv_data_to_file()
    model.write_tensors_to_file()
    model.close()


def serve(path: Path, key: str, port: int) -> None:
    # By name: its stubs leave out the names that its extension module adds, and it may be missing altogether.
    xllamacpp = importlib.import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.model_alias = {"tiny"}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = 4
    parameters.n_ctx = 4 * CONTEXT
    parameters.n_predict = 64
    parameters.n_gpu_layers = 0
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.api_keys = [key]
    parameters.offline = True
    parameters.warmup = False
    parameters.endpoint_metrics = True
    server = xllamacpp.Server(parameters)
    print(f"ready {server.listening_address}", flush=True)  # noqa: T201 - what the parent waits for
    sys.stdin.read()


if __name__ == "__main__":
    folder, key, port = sys.argv[1:]
    model = Path(folder) / "tiny.gguf"
    make_model(model)
    serve(model, key, int(port))
