"""The assets of the training benchmark: `python -m bench.assets FOLDER --size tiny --rows 160`.

FOLDER/train.parquet and valid.parquet, FOLDER/model (random T5 weights under a fixed seed, with its tokenizer):
neither speed nor memory depends on what the weights are. Rows come from the demo's pairs, or from a given file.
"""

import argparse
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from pyarrow import Table
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from engine.data import demo_corpus
from engine.data.tokenizer import train_tokenizer

VALIDATION_ROWS = 96
TOKENS = 16_000
SIZES = {
    "toy": {"vocab_size": 16_000, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    "tiny": {"vocab_size": 16_000, "d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4},
    "chatlm": {"vocab_size": 29_298, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 10, "num_heads": 12},
}


def pairs(path: Path | None) -> list[tuple[str, str]]:
    """Prompts and responses from a Parquet file with such columns, or the demo's."""
    if path is None:
        return demo_corpus.pairs()
    table = pq.read_table(path, columns=["prompt", "response"]).to_pydict()
    return list(zip(table["prompt"], table["response"], strict=True))


def write(folder: Path, size: str, rows: int, source: Path | None) -> None:
    """Writes rows, tokenizer and model into the empty or missing `folder`; raises ValueError if rows are too few."""
    found = pairs(source)
    if len(found) < rows + VALIDATION_ROWS:
        raise ValueError(f"{len(found)} rows are fewer than {rows} and {VALIDATION_ROWS} for validation")
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", found[:rows]), ("valid", found[rows : rows + VALIDATION_ROWS])):
        prompts, responses = zip(*part, strict=True)
        pq.write_table(Table.from_pydict({"prompt": prompts, "response": responses}), folder / f"{name}.parquet")
    model = folder / "model"
    train_tokenizer(model, (text for pair in found for text in pair), TOKENS)
    tokenizer = AutoTokenizer.from_pretrained(model)
    torch.manual_seed(0)
    ids = {"decoder_start_token_id": tokenizer.pad_token_id, "pad_token_id": tokenizer.pad_token_id}
    shape: dict[str, Any] = {**SIZES[size], **ids, "eos_token_id": tokenizer.eos_token_id, "dropout_rate": 0.1}
    T5ForConditionalGeneration(T5Config(**shape)).save_pretrained(model)


def main() -> None:
    """Writes the assets that the command line requests."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--size", choices=SIZES, default="tiny")
    options.add_argument("--rows", type=int, default=160)
    options.add_argument("--source", type=Path)
    given = options.parse_args()
    write(given.folder, given.size, given.rows, given.source)


if __name__ == "__main__":
    main()
