"""Greedy replies of a chat model: `python -m bench.chat_replies WHO MODEL ROWS OUT`.

WHO is ours or transformers, whose model.generate gets 32 prompts at a time, padded on the left. Both take the prompts
by the model's own template, longest first, and write at most LONGEST tokens. OUT gets replies a second and the replies.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.contract.presets import preset
from engine.models import loading
from engine.models.on_device import find_head, network_of

LONGEST = 48
BATCH = 32
Replies = Callable[[list[torch.Tensor]], list[list[int]]]


def ours(folder: Path, tokenizer: Any, kind: torch.dtype) -> tuple[Replies, int]:
    """This project's replies, and how many prompts it takes at a time."""
    config = replace(preset("chat").config, pretrained_model=str(folder), tokenizer=str(folder))
    model = loading.load_model(config, tokenizer)
    network = network_of(model, find_head(model), config.loss_chunk_tokens, bf16=kind == torch.bfloat16)
    model.eval()
    network.begin_step()
    return lambda prompts: network.replies(prompts, LONGEST), config.eval_batch_rows


def theirs(folder: Path, tokenizer: Any, kind: torch.dtype) -> tuple[Replies, int]:
    """The replies of model.generate, and how many prompts it takes at a time."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).eval()
    stop = model.generation_config.eos_token_id
    stops = stop if isinstance(stop, list) else [stop]

    def replies(prompts: list[torch.Tensor]) -> list[list[int]]:
        rows = [{"input_ids": prompt.tolist()} for prompt in prompts]
        given = tokenizer.pad(rows, padding_side="left", return_tensors="pt")
        found = model.generate(**given, max_new_tokens=LONGEST, do_sample=False)
        return [_until(ids, stops) for ids in found[:, given["input_ids"].shape[1] :].tolist()]

    return replies, BATCH


def _until(ids: list[int], stops: list[int]) -> list[int]:
    """What comes before the first stop token."""
    return ids[: next((at for at, token in enumerate(ids) if token in stops), len(ids))]


def prompts_of(rows: Path, tokenizer: Any) -> list[torch.Tensor]:
    """The prompts of a file as the model is asked them, the longest first."""
    texts = pq.read_table(rows, columns=["prompt"]).to_pydict()["prompt"]
    asked = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in texts
    ]
    return [torch.tensor(ids) for ids in sorted(asked, key=len, reverse=True)]


def main() -> None:
    """Replies according to the command line and writes the measurements."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("who", choices=("ours", "transformers"))
    options.add_argument("model", type=Path)
    options.add_argument("rows", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    given = options.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    kind = torch.bfloat16 if given.precision == "bf16" else torch.float32
    prompts = prompts_of(given.rows, tokenizer)
    replies, size = (ours if given.who == "ours" else theirs)(given.model, tokenizer, kind)
    found: list[list[int]] = []
    began = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(prompts), size):
            found += replies(prompts[start : start + size])
    seconds = time.perf_counter() - began
    texts = [str(tokenizer.decode(reply, skip_special_tokens=True)) for reply in found]
    given.out.write_text(json.dumps({"rate": len(prompts) / seconds, "replies": texts}))


if __name__ == "__main__":
    main()
