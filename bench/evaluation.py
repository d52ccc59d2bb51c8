"""One evaluation with replies, by this project and by transformers: `python -m bench.evaluation WHO ASSETS OUT`.

WHO is ours or standard. Both load the model of ASSETS, compute the loss of the validation rows and a greedy reply of at
most LONGEST tokens to each prompt, in fp32. OUT gets rows a second, the loss and the replies.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
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

from engine.contract.presets import preset
from engine.data.parquet_rows import RowSource
from engine.data.references import references, rows_replied
from engine.data.token_store import open_store
from engine.models import loading as models
from engine.models.on_device import find_head, network_of
from engine.process.world import World
from engine.training.evaluation import Evaluator

LONGEST = 48


def ours(assets: Path) -> dict[str, Any]:
    """Evaluates with this project."""
    with tempfile.TemporaryDirectory() as folder:
        config = replace(
            preset("sft-small").config,
            pretrained_model=str(assets / "model"),
            tokenizer=str(assets / "model"),
            max_new_tokens=LONGEST,
        )
        tokenizer = AutoTokenizer.from_pretrained(assets / "model")
        source = RowSource(assets / "valid.parquet", "validation_file", "prompt", "response")
        store = open_store(source, tokenizer, config.max_seq_len, Path(folder), lambda _done, _total: None)
        net = models.load_model(config, tokenizer)
        network = network_of(net, find_head(net), config.loss_chunk_tokens, bf16=False)
        wanted = references(source, store, rows_replied(config, len(store)))
        evaluator = Evaluator(network, tokenizer, store, wanted, World(), config, lambda _name, _done, _total: None)
        score = evaluator.run()
    replies = [prediction.reply for prediction in score.predictions]
    return {"rows": score.rows / score.seconds, "loss": score.loss, "replies": replies}


def standard(assets: Path) -> dict[str, Any]:
    """Evaluates with transformers' Seq2SeqTrainer in its default configuration, with replies requested."""
    tokenizer = AutoTokenizer.from_pretrained(assets / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(assets / "model")
    rows = pq.read_table(assets / "valid.parquet").to_pydict()
    inputs, labels = (
        tokenizer(rows[name], truncation=True, max_length=512).input_ids for name in ("prompt", "response")
    )
    samples = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": target}
        for ids, target in zip(inputs, labels, strict=True)
    ]
    kept: list[Any] = []

    def keep(found: Any) -> dict[str, float]:
        kept.extend(found.predictions)
        return {}

    with tempfile.TemporaryDirectory() as out:
        trainer = Seq2SeqTrainer(
            model=model,
            args=Seq2SeqTrainingArguments(
                out,
                predict_with_generate=True,
                generation_max_length=LONGEST + 1,
                generation_num_beams=1,
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
            ),
            eval_dataset=samples,  # type: ignore[arg-type]  # a list provides what a Dataset must
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
            compute_metrics=keep,
        )
        began = time.perf_counter()
        metrics = trainer.evaluate()
        seconds = time.perf_counter() - began
    ids = [[int(token) for token in reply if token >= 0] for reply in kept]
    replies = [str(tokenizer.decode(reply, skip_special_tokens=True)) for reply in ids]
    return {"rows": len(samples) / seconds, "loss": metrics["eval_loss"], "replies": replies}


def main() -> None:
    """Evaluates according to the command line and writes the measurements."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("who", choices=("ours", "standard"))
    options.add_argument("assets", type=Path)
    options.add_argument("out", type=Path)
    given = options.parse_args()
    found = ours(given.assets) if given.who == "ours" else standard(given.assets)
    given.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
