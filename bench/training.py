"""Compares training with transformers' own trainer: `python -m bench.training --size tiny`.

Every contestant trains one pass over the same rows in a separate process, and ours two passes in another; all of them
in turn, as often as requested; figures are medians. Steps after the first of a pass count for speed; memory is the
largest resident set of the process from its start to its end. In the same run the machine's rate of matrix products is
measured.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.children import ended
from bench.machine import machine
from engine.contract import environment
from engine.contract.config import RunConfig, to_json
from engine.contract.events import Record, Step
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from engine.data.parquet_rows import RowSource
from engine.data.token_store import open_store
from engine.data.tokenizer import load_tokenizer
from sft_tui.supervise.ranks import trainer_environment

STEP_ROWS = 16
FINALISTS = 2  # number of the standard's recipes, the best of the first turn, that run in every turn
PRODUCTS = """
import sys, time, torch
for kind in (torch.float32, torch.bfloat16):
    a, b = (torch.randn(2048, 2048).to(kind) for _ in "ab")
    rates = []
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        rates.append(2 * 2048**3 / (time.perf_counter() - began))
    print(sorted(rates)[len(rates) // 2] / 1e9)
"""


@dataclass(frozen=True)
class Measured:
    """One training: figures of the last epoch's steps after its first, and of the whole process."""

    label_tokens: float  # a second
    memory: float  # MB, the largest resident set
    first_step: float  # seconds from the start of the process to the end of its first step
    flops: float = 0.0  # useful ones a second: without padding, gradients of frozen weights, and attention scores
    outside: float = 0.0  # share of the time between two steps that is part of neither
    step: float = 0.0  # seconds of the first step


def planned(config: RunConfig, scratch: Path, processes: int = 1) -> tuple[RunDir, RunRecord]:
    """The folder and record of a run that is about to begin."""
    run_dir = RunDir(scratch / "logs" / "bench-1")
    run_dir.path.mkdir(parents=True)
    record = RunRecord("bench-1", "sft-small", "train", to_json(config), processes=processes)
    run_dir.write_record(record)
    return run_dir, record


def trained(config: RunConfig, scratch: Path) -> tuple[RunDir, float]:
    """A whole run by this project's trainer, and its largest resident set in MB; raises RuntimeError if it fails."""
    run_dir, record = planned(config, scratch)
    command = [sys.executable, "-m", "engine.train", str(run_dir.path)]
    return run_dir, ended(command, trainer_environment(record, None), scratch / "log")


def configured(assets: Path, scratch: Path, **settings: Any) -> RunConfig:
    """The settings of a run on the assets' model and rows that writes into `scratch`: STEP_ROWS rows a step."""
    return replace(
        preset("sft-small").config,
        train_file=str(assets / "train.parquet"),
        validation_file=str(assets / "valid.parquet"),
        token_store=str(scratch / "token_store"),
        tokenizer=str(assets / "model"),
        pretrained_model=str(assets / "model"),
        output_dir=str(scratch / "out"),
        batch_size_per_gpu=STEP_ROWS,
        gradient_accumulation_steps=1,
        **settings,
    )


def ours(assets: Path, scratch: Path, precision: str, epochs: int, budget: int, chunk: int) -> Measured:
    """One or more epochs by this project's trainer; evaluations, checkpoints and publication count towards the memory.

    With one epoch each step encodes its own prompts. With more, the first steps also encode prompts of later ones.
    """
    config = configured(
        assets,
        scratch,
        mixed_precision=precision,
        micro_batch_tokens=budget,
        loss_chunk_tokens=chunk,
        epochs=epochs,
        eval_rows=16,
        bleu_rows=4,
        max_new_tokens=8,
    )
    make_stores(config)
    began = time.monotonic()
    run_dir, memory = trained(config, scratch)
    records = [found for found in EventReader(run_dir.events).poll() if isinstance(found.event, Step)]
    return _measured(records, epochs, began, memory, _Shape.of(assets / "model"))


def make_stores(config: RunConfig) -> None:
    """Tokenizes the rows of both files, unless that was done."""
    tokenizer = load_tokenizer(config.tokenizer)
    for setting in ("train_file", "validation_file"):
        source = RowSource(Path(getattr(config, setting)), setting, "prompt", "response")
        open_store(source, tokenizer, config.max_seq_len, Path(config.token_store), lambda _done, _total: None)


@dataclass(frozen=True)
class _Shape:
    """The number of weights that a token meets in matrix products."""

    decoder: int  # per label token, all trained
    head: int
    encoder: int  # per prompt token, all frozen
    cross: int  # per prompt token: keys and values, trained

    @classmethod
    def of(cls, folder: Path) -> "_Shape":
        config = json.loads((folder / "config.json").read_text())
        width, inner = config["d_model"], config["num_heads"] * config["d_kv"]
        layers, deep, feed = config["num_layers"], config["num_decoder_layers"], 2 * width * config["d_ff"]
        square = width * inner
        return cls(
            deep * (6 * square + feed), config["vocab_size"] * width, layers * (4 * square + feed), deep * 2 * square
        )

    def flops(self, label_tokens: int, prompt_tokens: int) -> float:
        """FLOPs of a step: forward, and the gradients of inputs and weights where they are needed."""
        label = 6 * self.decoder + 4 * self.head
        return float(label * label_tokens + (2 * self.encoder + 4 * self.cross) * prompt_tokens)


def _measured(records: list[Record], epochs: int, began: float, memory: float, shape: _Shape) -> Measured:
    steps = [record.event for record in records if isinstance(record.event, Step)]
    first = len(steps) // epochs * (epochs - 1)  # of the last epoch
    counted = steps[first + 1 :]
    seconds = sum(step.seconds for step in counted)
    # Between steps of one epoch, without a checkpoint or an evaluation in between.
    span = records[-2].envelope.mono - records[first].envelope.mono
    return Measured(
        label_tokens=sum(step.label_tokens for step in counted) / seconds,
        memory=memory,
        first_step=records[0].envelope.mono - began,
        flops=sum(shape.flops(step.label_tokens, step.tokens - step.label_tokens) for step in counted) / seconds,
        outside=1 - sum(step.seconds for step in counted[:-1]) / span,
        step=steps[0].seconds,
    )


def standard(assets: Path, scratch: Path, *options: str) -> Measured:
    """The same epoch by transformers' trainer."""
    result = scratch / "result.json"
    env = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-m", "bench.standard", str(assets), str(result), *options]
    memory = ended(command, env, scratch / "log")
    found = json.loads(result.read_text())
    return Measured(sum(found["label_tokens"]) / sum(found["seconds"]), memory, found["first_step"])


def evaluated(assets: Path, scratch: Path, who: str) -> dict[str, Any]:
    """One evaluation with replies; see `bench.evaluation`."""
    out = scratch / f"evaluated-{who}.json"
    command = [sys.executable, "-m", "bench.evaluation", who, str(assets), str(out)]
    record = RunRecord("bench-1", "sft-small", "train", {})
    env = trainer_environment(record, None) if who == "ours" else dict(os.environ)
    env.pop(environment.SUPERVISOR, None)
    ended(command, env, scratch / "log")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def products() -> tuple[float, float]:
    """The current speed of matrix products on this machine, GFLOP/s in fp32 and bf16."""
    printed = subprocess.run([sys.executable, "-c", PRODUCTS], check=True, capture_output=True, text=True).stdout
    fp32, bf16 = (float(line) for line in printed.split())
    return fp32, bf16


def imports(scratch: Path) -> float:
    """Seconds of a process that imports what every trainer of a T5 imports from torch and transformers."""
    program = "import torch; from transformers import AutoTokenizer, T5ForConditionalGeneration"
    began = time.monotonic()
    ended([sys.executable, "-c", program], dict(os.environ), scratch / "log")
    return time.monotonic() - began


def variants(*, every: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names and options of the standard's recipes: its default, and the candidates for its best."""
    yield "standard, default", ()
    for micro_batch, by_length in itertools.product((1, 4, 8, 16), (False, True)):
        if every or micro_batch in (1, 4):
            ordered = ", by length" if by_length else ""
            options = ("--bf16", "--micro-batch", str(micro_batch), *(("--by-length",) if by_length else ()))
            yield f"standard, bf16, {micro_batch}{ordered}", options


@dataclass(frozen=True)
class Found:
    """All measurements, by contestant."""

    trained: dict[str, list[Measured]]
    products: list[tuple[float, float]]  # of matrices, GFLOP/s in fp32 and bf16
    imports: list[float]
    evaluated: dict[str, list[dict[str, Any]]]


def measure(assets: Path, repeats: int, budget: int, chunk: int, *, every: bool) -> Found:
    """Every contestant's measurements, taken in turn; the standard's slow recipes run only once."""
    found: dict[str, list[Measured]] = {}
    rates: list[tuple[float, float]] = []
    bare: list[float] = []
    scores: dict[str, list[dict[str, Any]]] = {"ours": [], "standard": []}
    recipes = dict(variants(every=every))
    for turn in range(repeats):
        with tempfile.TemporaryDirectory() as place:
            for name, precision, epochs in (
                ("ours, bf16", "bf16", 1),
                ("ours, bf16, second epoch", "bf16", 2),
                ("ours, fp32", "fp32", 1),
            ):
                scratch = Path(place) / name
                scratch.mkdir()
                found.setdefault(name, []).append(ours(assets, scratch, precision, epochs, budget, chunk))
                if name == "ours, bf16":
                    rates.append(products())
            for number, (name, options) in enumerate(recipes.items()):
                scratch = Path(place) / str(number)
                scratch.mkdir()
                found.setdefault(name, []).append(standard(assets, scratch, *options))
            bare.append(imports(Path(place)))
            for who, scored in scores.items():
                scored.append(evaluated(assets, Path(place), who))
        print(f"  turn {turn + 1} of {repeats}", file=sys.stderr, flush=True)
        first, *others = recipes
        best = sorted(others, key=lambda name: speed(found[name]), reverse=True)[:FINALISTS]
        recipes = {name: recipes[name] for name in (first, *best)}
    return Found(found, rates, bare, scores)


def speed(measured: list[Measured]) -> float:
    """The median of label tokens a second."""
    return statistics.median(one.label_tokens for one in measured)


def speeds_over(ones: list[Measured], others: list[Measured]) -> list[float]:
    """The ratios of speed, turn by turn."""
    return [one.label_tokens / other.label_tokens for one, other in zip(ones, others, strict=True)]


def main() -> int:
    """Prints the table for one size."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", default="tiny", help="tiny (11 M) or chatlm (188 M)")
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--budget", type=int, default=1024, help="micro_batch_tokens of our runs")
    options.add_argument("--chunk", type=int, default=256, help="loss_chunk_tokens of our runs")
    options.add_argument("--rows", type=Path, help="Parquet with prompt and response; the demo's rows without it")
    options.add_argument("--every", action="store_true", help="micro-batches of 8 and 16 rows for the standard too")
    given = options.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as place:
        assets = Path(place) / "assets"
        source = ["--source", str(given.rows)] if given.rows else []
        rows = ["--rows", str(STEP_ROWS * given.steps), *source]
        command = [sys.executable, "-m", "bench.assets", str(assets), "--size", given.size, *rows]
        ended(command, dict(os.environ), Path(place) / "log")
        found = measure(assets, given.repeats, given.budget, given.chunk, every=given.every)
    report(found, given.size, given.steps)
    return 0


def report(found: Found, size: str, steps: int) -> None:
    """Prints the table and the single figures."""
    trained = found.trained
    fp32, bf16 = (statistics.median(rates) for rates in zip(*found.products, strict=True))
    print(f"matrix products: {fp32:.0f} GFLOP/s in fp32, {bf16:.0f} in bf16")
    default = trained["standard, default"]
    print(f"{size}, {steps} steps of {STEP_ROWS} rows")
    print(f"{'':<30} {'label tokens/s':>14} {'x default':>10} {'peak MB':>9} {'x default':>10}  turns")
    memory = statistics.median(one.memory for one in default)
    for name, measured in trained.items():
        peak, rate = statistics.median(one.memory for one in measured), speed(measured)
        printed = f"{name:<30} {rate:>14,.0f} {rate / speed(default):>10.2f} {peak:>9,.0f} {peak / memory:>10.2f}"
        print(f"{printed}  {len(measured)}", flush=True)
    mine, second = trained["ours, bf16"], trained["ours, bf16, second epoch"]
    others = [name for name, turns in trained.items() if name.startswith("standard, bf16") and len(turns) == len(mine)]
    best = max(others, key=lambda name: speed(trained[name]))
    memories = [one.memory / other.memory for one, other in zip(second, default, strict=True)]
    shares = [one.flops / 1e9 / rate for one, (_, rate) in zip(mine, found.products, strict=True)]
    starts = [one.first_step / (bare + one.step) for one, bare in zip(mine, found.imports, strict=True)]
    scores = list(zip(found.evaluated["ours"], found.evaluated["standard"], strict=True))
    same = sum(a == b for a, b in zip(scores[0][0]["replies"], scores[0][1]["replies"], strict=True))
    for what, values in (
        ("speed over the standard's default", speeds_over(mine, default)),
        (f"speed over its best ({best})", speeds_over(mine, trained[best])),
        ("memory over the standard's default", memories),
        ("share of the bf16 matrix-product rate", shares),
        ("second epoch over the first", speeds_over(second, mine)),
        ("time outside steps", [one.outside for one in mine]),
        ("first step over imports and step", starts),
        ("evaluated rows/s over the standard's", [a["rows"] / b["rows"] for a, b in scores]),
    ):
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"{what:<52} {middle:>7.3f}  ({low:.3f} to {high:.3f})")
    print(f"equal replies: {same} of {len(scores[0][0]['replies'])}")


if __name__ == "__main__":
    sys.exit(main())
