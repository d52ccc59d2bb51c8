"""Chat training by TRL's SFTTrainer: `PEERS/bin/python -m bench.chat_peer MODEL ROWS.parquet RESULT.json --lora`.

Runs in an environment of its own (`make bench-chat` creates it), because this project needs neither trl nor peft to
train. Responses alone are learned, an optimizer step holds 16 rows, and one pass is made over all rows. RESULT gets the
seconds of the pass, its learned tokens and all its tokens without padding, when the first step ended, the seconds and
learned tokens of every later one, and the peak of the GPU's memory. TRL also learns what the template writes behind the
token that ends a response; that is not counted, since ours does not.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from bench import device
from bench.clock import Clock, later_steps

STEP_ROWS = 16


def rows_of(path: Path) -> Dataset:
    """The pairs of a Parquet file as conversations of one turn, in the columns that TRL learns responses from."""
    table = pq.read_table(path).to_pydict()
    turns = {"prompt": "user", "response": "assistant"}
    prompts, responses = ([[{"role": turns[name], "content": text}] for text in table[name]] for name in turns)
    return Dataset.from_dict({"prompt": prompts, "completion": responses})


def counted(collate: Callable[[Any], Any], stop: int, seen: list[tuple[int, int]]) -> Callable[[Any], Any]:
    """The collator, which also appends to `seen` the learned tokens and all tokens of every micro-batch it makes.

    What follows the token `stop` in a response is neither.
    """

    def count(features: Any) -> Any:
        batch = collate(features)
        ids, learned, mask = batch["input_ids"], batch["labels"] != -100, batch.get("attention_mask")
        behind = int((learned[:, 1:] & learned[:, :-1] & (ids[:, :-1] == stop)).sum())
        tokens = ids.numel() if mask is None else int(mask.sum())
        seen.append((int(learned.sum()) - behind, tokens - behind))
        return batch

    return count


def micro_batches(given: argparse.Namespace) -> int:
    """The number of micro-batches in a step."""
    return 1 if given.packing else STEP_ROWS // int(given.micro_batch)


def settings(given: argparse.Namespace, out: str) -> SFTConfig:
    """TRL's settings for what the command line requests; where it is silent, TRL's defaults."""
    changed: dict[str, Any] = {}
    if given.by_length:
        changed["train_sampling_strategy"] = "group_by_length"
    if given.keep_activations:
        changed["gradient_checkpointing"] = False
    if given.fp32 or given.bf16_weights:
        changed["bf16"] = False  # TRL's default is True
    return SFTConfig(
        out,
        num_train_epochs=1,
        per_device_train_batch_size=given.micro_batch,
        gradient_accumulation_steps=micro_batches(given),
        learning_rate=2e-4 if given.lora else 2e-5,
        packing=given.packing,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=given.device == "cpu",
        **changed,
    )


def main() -> None:
    """Trains for one pass according to the command line, and writes the measurements."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("rows", type=Path)
    options.add_argument("result", type=Path)
    options.add_argument("--lora", action="store_true", help="rank 16 on all linear layers but the head")
    options.add_argument("--micro-batch", type=int, default=8)
    options.add_argument("--fp32", action="store_true", help="computes in fp32 instead of bf16")
    options.add_argument("--bf16-weights", action="store_true", help="weights too, apart from adapters")
    options.add_argument("--by-length", action="store_true")
    options.add_argument("--packing", action="store_true", help="rows of 1,024 tokens, one micro-batch a step")
    options.add_argument("--keep-activations", action="store_true", help="without gradient checkpointing")
    device.add_option(options)
    given = options.parse_args()
    device.require(given.device)
    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    kind = torch.bfloat16 if given.bf16_weights else torch.float32
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=kind)
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    clock = Clock()
    seen: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as out:
        trainer = SFTTrainer(
            model=model,
            processing_class=tokenizer,
            peft_config=adapter if given.lora else None,
            train_dataset=rows_of(given.rows),
            args=settings(given, out),
            callbacks=[clock],
        )
        trainer.data_collator = counted(trainer.data_collator, tokenizer.eos_token_id, seen)
        trainer.train()
    result = {
        "first_step": clock.ends[0] - began,
        "seconds": clock.ends[-1] - clock.began,
        "label_tokens": sum(learned for learned, _ in seen),
        "tokens": sum(tokens for _, tokens in seen),
        "later_seconds": clock.seconds,
        "later_label_tokens": later_steps([learned for learned, _ in seen], micro_batches(given)),
        "device_memory": device.peak_mb(),
    }
    given.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
