"""The assets of the GPU benchmark: `python -m bench.gpu_assets FOLDER --size full --rows 320 [--model FOLDER]`.

FOLDER/t5 and FOLDER/chat hold train.parquet, valid.parquet and few.parquet (the first rows of train.parquet), and a
`model`: a T5 and a Llama with random weights under a fixed seed and a tokenizer, or a given chat model. The T5 without
dropout is t5/without_dropout: two devices draw different random numbers. Nothing is downloaded.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench import assets
from bench.chat_assets import write_rows
from engine.data import demo_corpus

FEW_ROWS = 40  # ten steps of four
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
T5_SIZES = {"full": "chatlm", "toy": "toy"}
LLAMA_SIZES: dict[str, dict[str, Any]] = {
    # of SmolLM2-135M
    "full": {
        "vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
    },
    "toy": {
        "vocab_size": 2048, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048,
    },
}  # fmt: skip


def write_t5(folder: Path, size: str, rows: int) -> None:
    """Writes rows and the T5, and the T5 again without dropout, whose weights are the same file."""
    assets.write(folder, T5_SIZES[size], rows, None)
    still = folder / "without_dropout"
    still.mkdir()
    for path in (folder / "model").iterdir():
        if path.name != "config.json":
            os.link(path, still / path.name)
    config = json.loads((folder / "model" / "config.json").read_text())
    (still / "config.json").write_text(json.dumps({**config, "dropout_rate": 0.0}))


def write_llama(folder: Path, size: str) -> None:
    """Writes a Llama of SmolLM2's shape, or a toy, with a tokenizer of the demo's English texts and ChatML."""
    shape = LLAMA_SIZES[size]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=shape["vocab_size"], special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator((text for pair in demo_corpus.pairs(("english",)) for text in pair), trainer)
    names = dict(zip(("unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **names, pad_token=SPECIAL[2], chat_template=TEMPLATE
    ).save_pretrained(folder)
    torch.manual_seed(0)
    ids: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    rope: dict[str, Any] = {"rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0}}
    config = LlamaConfig(**shape, **ids, rms_norm_eps=1e-5, **rope, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)


def main() -> None:
    """Writes the assets that the command line requests."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--size", choices=T5_SIZES, default="full")
    options.add_argument("--rows", type=int, default=320)
    options.add_argument("--model", type=Path, help="a folder of a chat model")
    given = options.parse_args()
    write_t5(given.folder / "t5", given.size, given.rows)
    chat = given.folder / "chat"
    chat.mkdir()
    write_rows(chat / "train.parquet", chat / "valid.parquet", given.rows, assets.VALIDATION_ROWS)
    if given.model:
        (chat / "model").symlink_to(given.model.absolute(), target_is_directory=True)
    else:
        write_llama(chat / "model", given.size)
    for folder in (given.folder / "t5", chat):
        pq.write_table(pq.read_table(folder / "train.parquet").slice(0, FEW_ROWS), folder / "few.parquet")


if __name__ == "__main__":
    main()
