"""Tests whether speed costs loss: `python -m bench.parity ASSETS --steps 100`, with assets of 16 × steps rows.

The same rows in the same order with the same settings: once by this project's trainer with its defaults, once by a
plain loop over transformers' model in fp32, padded, with torch's own dropout and Adafactor. Prints the loss of the
validation rows after each, both computed in fp32 by the model that was trained.
"""

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from bench.training import STEP_ROWS, configured, trained
from engine.contract.config import RunConfig
from engine.data import batching
from engine.data.parquet_rows import RowSource
from engine.data.token_store import TokenStore, open_store
from engine.models import freezing
from engine.models.on_device import find_head
from engine.models.registry import parts_of
from engine.models.seq2seq.padded import PaddedNetwork
from engine.training import optim

PART = 4  # rows that the plain loop processes at once


def store_of(config: RunConfig, setting: str) -> TokenStore:
    """The tokens of one of the files."""
    source = RowSource(Path(getattr(config, setting)), setting, "prompt", "response")
    tokenizer = AutoTokenizer.from_pretrained(config.tokenizer)
    return open_store(source, tokenizer, config.max_seq_len, Path(config.token_store), lambda _done, _total: None)


def ours(config: RunConfig, scratch: Path) -> Any:
    """The model that this project trains in one epoch."""
    trained(config, scratch)
    return AutoModelForSeq2SeqLM.from_pretrained(Path(config.output_dir) / "best")


def plain(config: RunConfig, steps: int) -> Any:
    """The model that the plain loop trains on the same steps."""
    net = AutoModelForSeq2SeqLM.from_pretrained(config.pretrained_model)
    freezing.freeze(net, config.freeze, parts_of(net))
    freezing.set_training_mode(net)
    learning = list(freezing.trained_parameters(net).values())
    optimizer = torch.optim.Adafactor(learning, lr=config.learn_rate, weight_decay=config.weight_decay)
    store, network = store_of(config, "train_file"), PaddedNetwork(net, None, 1, autocast=False)
    for step in range(steps):
        samples = batching.epoch_samples(config.seed, 0, len(store), step * STEP_ROWS, (step + 1) * STEP_ROWS)
        tokens = int(store.lengths(samples.tolist()).label.sum())
        for start in range(0, len(samples), PART):
            (network.summed_loss(store.rows_at(samples[start : start + PART].tolist())) / tokens).backward()
        torch.nn.utils.clip_grad_norm_(learning, config.max_grad_norm)
        optim.set_learning_rate(optimizer, optim.learning_rate(config, step, steps))
        optimizer.step()
        optimizer.zero_grad()
    return net


def loss_of(net: Any, config: RunConfig) -> float:
    """Mean cross-entropy over the label tokens of the validation rows, in fp32."""
    store, network = store_of(config, "validation_file"), PaddedNetwork(net.eval(), find_head(net), 256, autocast=False)
    rows = list(range(len(store)))
    total = math.fsum(loss for row in rows for loss in network.row_losses(store.rows_at([row])))
    return total / int(store.lengths(rows).label.sum())


def main() -> int:
    """Prints both losses."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("assets", type=Path)
    options.add_argument("--steps", type=int, default=100)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch, assets = Path(folder), given.assets
        config = configured(assets, scratch, epochs=1, bleu_rows=1, max_new_tokens=1)
        rows = len(store_of(config, "train_file"))
        if rows != given.steps * STEP_ROWS:
            raise SystemExit(f"{assets} has {rows} rows: {given.steps * STEP_ROWS} make {given.steps} steps")
        before = loss_of(AutoModelForSeq2SeqLM.from_pretrained(config.pretrained_model), config)
        fast, reference = loss_of(ours(config, scratch), config), loss_of(plain(config, given.steps), config)
    apart = abs(fast / reference - 1)
    print(f"validation loss after {given.steps} steps: ours {fast:.4f}, plain fp32 {reference:.4f}, {apart:.2%} apart")
    print(f"before: {before:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
