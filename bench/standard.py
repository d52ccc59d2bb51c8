"""Training by transformers' Seq2SeqTrainer: `python -m bench.standard ASSETS RESULT.json --micro-batch 4 --bf16`.

Encoder and embeddings are frozen and an optimizer step holds 16 rows, as in the run it is measured against. RESULT
gets the seconds and the label tokens (padding not counted) of every step after the first, when that one ended, and the
peak of the GPU's memory.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from bench import device
from bench.clock import Clock, later_steps

STEP_ROWS = 16


def main() -> None:
    """Trains for one pass over the rows according to the command line, and writes the measurements."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("assets", type=Path)
    options.add_argument("result", type=Path)
    options.add_argument("--micro-batch", type=int, default=1)
    options.add_argument("--bf16", action="store_true")
    options.add_argument("--by-length", action="store_true")
    device.add_option(options)
    given = options.parse_args()
    device.require(given.device)
    began = time.perf_counter()
    tokenizer = AutoTokenizer.from_pretrained(given.assets / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(given.assets / "model")
    for part in (model.shared, model.encoder):
        part.requires_grad_(False)
    rows = pq.read_table(given.assets / "train.parquet").to_pydict()
    inputs, labels = (
        tokenizer(rows[name], truncation=True, max_length=512).input_ids for name in ("prompt", "response")
    )
    samples = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": target}
        for ids, target in zip(inputs, labels, strict=True)
    ]
    collate, seen, clock = DataCollatorForSeq2Seq(tokenizer, model=model), [], Clock()

    def counted(features: list[dict[str, list[int]]]) -> Any:
        seen.append(sum(len(feature["labels"]) for feature in features))
        return collate(features)

    ordered: dict[str, Any] = {"train_sampling_strategy": "group_by_length"} if given.by_length else {}
    with tempfile.TemporaryDirectory() as out:
        Seq2SeqTrainer(
            model=model,
            args=Seq2SeqTrainingArguments(
                out,
                num_train_epochs=1,
                per_device_train_batch_size=given.micro_batch,
                gradient_accumulation_steps=STEP_ROWS // given.micro_batch,
                learning_rate=5e-5,
                bf16=given.bf16,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=given.device == "cpu",
                **ordered,
            ),
            train_dataset=samples,
            data_collator=counted,
            callbacks=[clock],
        ).train()
    result = {
        "first_step": clock.ends[0] - began,
        "seconds": clock.seconds,
        "label_tokens": later_steps(seen, STEP_ROWS // given.micro_batch),
        "device_memory": device.peak_mb(),
    }
    given.result.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
