"""Measures what more rows and more processes cost: `python -m bench.scale --counts 3000 100000 1000000`.

Rows are the demo's, or those of a given file, repeated, each with a number that makes it distinct. For each count they
are tokenized in a separate process, with up to 100,000 of them by the bare tokenizer before and after; then the trainer
makes a few steps on that token store. Memory of a trainer is the largest resident set of rank 0, and that of all ranks
together with shared pages counted once (Pss), read five times a second.
"""

import argparse
import itertools
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench import assets
from bench.children import ended
from bench.training import make_stores, planned
from engine.contract.config import RunConfig, from_json, to_json
from engine.contract.events import RunEnded, Step
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.stream import EventReader
from engine.data.parquet_rows import RowSource
from engine.data.token_store import open_store
from engine.data.tokenizer import load_tokenizer
from engine.process.job import peak_memory
from sft_tui.supervise.ranks import Ranks, trainer_environment

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PART = 20_000  # rows written at once
BARE_ROWS = 100_000
TURNS = 5  # repetitions of tokenizing, if there are no more rows than that
LIMIT_SECONDS = 1800.0


def write_rows(path: Path, pairs: list[tuple[str, str]], count: int) -> None:
    """Writes `count` different rows."""
    endless = itertools.cycle(pairs)
    with pq.ParquetWriter(path, pa.schema({"prompt": pa.string(), "response": pa.string()})) as writer:
        for start in range(0, count, PART):
            part = list(itertools.islice(endless, min(PART, count - start)))
            prompts = [f"{number} {prompt}" for number, (prompt, _) in enumerate(part, start)]
            writer.write_table(pa.table({"prompt": prompts, "response": [response for _, response in part]}))


def tokenize(config: RunConfig) -> dict[str, float]:
    """Makes the token store in this process; returns rows a second, their share of the bare tokenizer's, and megabytes.

    The bare tokenizer runs before and after, and its mean counts; with few rows everything is done several times.
    """
    tokenizer, store = load_tokenizer(config.tokenizer), Path(config.token_store)
    before, rates, shares, rows = peak_memory(), list[float](), list[float](), 0
    bare = bare_rate(config, tokenizer)
    while len(rates) < (TURNS if rows <= BARE_ROWS else 1):
        shutil.rmtree(store, ignore_errors=True)
        began = time.perf_counter()
        rows = len(open_store(source_of(config), tokenizer, config.max_seq_len, store, lambda *_: None))
        rates.append(rows / (time.perf_counter() - began))
        peak, earlier = peak_memory(), bare
        bare = bare_rate(config, tokenizer)
        shares.append(2 * rates[-1] / (earlier + bare))
    return {"rate": median(rates), "share": median(shares), "more": (peak - before) / 1e6}


def bare_rate(config: RunConfig, tokenizer: "PreTrainedTokenizerBase") -> float:
    """Rows a second by the tokenizer alone, over enough rows to measure it."""
    rows, seconds = 0, 0.0
    for batch in pq.ParquetFile(config.train_file).iter_batches(1000):
        texts = [text for column in batch.columns for text in column.to_pylist()]
        began = time.perf_counter()
        tokenizer.backend_tokenizer.encode_batch_fast(texts)
        seconds += time.perf_counter() - began
        rows += batch.num_rows
        if rows >= BARE_ROWS:
            break
    return rows / seconds


def source_of(config: RunConfig) -> RowSource:
    """The training file."""
    return RowSource(Path(config.train_file), "train_file", config.prompt_column, config.response_column)


@dataclass(frozen=True)
class Trained:
    """A few steps of the trainer: seconds to the end of the first, tokens a second, and megabytes."""

    first_step: float
    rate: float
    communication: float  # share of the steps
    memory: float  # of rank 0
    together: float


def train(config: RunConfig, scratch: Path, processes: int, steps: int) -> Trained:
    """Trains until `steps` are done, then asks the ranks to stop; raises RuntimeError if they do not get there."""
    run_dir, record = planned(config, scratch, processes)
    ranks, reader = Ranks(run_dir, record, 1, None), EventReader(run_dir.events)
    began, together, found = time.monotonic(), 0.0, list[Step]()
    first_step, ended_as, asked = 0.0, None, False
    ranks.start()
    try:
        while len(ranks.exits) < processes:
            together = max(together, sum(proportional_set(pid) for pid in ranks.pids))
            for seen in reader.poll():
                if isinstance(seen.event, Step):
                    first_step = first_step or seen.envelope.mono - began
                    found.append(seen.event)
                if isinstance(seen.event, RunEnded):
                    ended_as = seen.event
            if len(found) >= steps and not asked:
                ranks.signal(signal.SIGINT)
                asked = True
            if time.monotonic() - began > LIMIT_SECONDS:
                raise RuntimeError(f"{steps} steps took more than {LIMIT_SECONDS:.0f} s")
            ranks.reap()
            time.sleep(0.2)
    finally:
        ranks.signal(signal.SIGKILL)
        ranks.clean_up([])
    if ended_as is None or len(found) < steps:
        raise RuntimeError(f"the trainer did not get to step {steps}: {run_dir.trainer_output.read_text()[-2000:]}")
    counted = found[1:steps]
    seconds = sum(step.seconds for step in counted)
    return Trained(
        first_step,
        sum(step.label_tokens for step in counted) / seconds,
        sum(step.seconds_communication for step in counted) / seconds,
        float(ended_as.evidence["peak_memory_rank0"]) / 1e6,
        together,
    )


def proportional_set(pid: int) -> float:
    """Megabytes of a process, with pages that others also map divided among them; 0 if it is gone."""
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0


def configured(scratch: Path, folder: Path, budget: int) -> RunConfig:
    """The settings of all runs; BLEU and checkpoints do not interfere with a few steps."""
    return replace(
        preset("sft-small").config,
        train_file=str(folder / "train.parquet"),
        validation_file=str(scratch / "assets" / "valid.parquet"),
        token_store=str(folder / "token_store"),
        tokenizer=str(scratch / "assets" / "model"),
        pretrained_model=str(scratch / "assets" / "model"),
        output_dir=str(folder / "out"),
        micro_batch_tokens=budget,
        epochs=1,
        batch_size_per_gpu=8,
        gradient_accumulation_steps=2,
    )


def rows_report(
    scratch: Path, counts: list[int], pairs: list[tuple[str, str]], steps: int, budget: int
) -> Iterator[str]:
    """A line of the table for each count of rows."""
    yield f"{'rows':>12} {'rows/s':>9} {'of bare':>8} {'MB more':>8} {'first step, s':>14} {'trainer MB':>11}"
    for count in counts:
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            config = configured(scratch, Path(place), budget)
            write_rows(Path(config.train_file), pairs, count)
            out, settings = Path(place) / "tokenized.json", Path(place) / "config.json"
            settings.write_text(json.dumps(to_json(config)))
            env = trainer_environment(RunRecord("scale-1", "sft-small", "train", {}), None)
            ended([sys.executable, "-m", "bench.scale", "--tokenize", str(settings), str(out)], env, scratch / "log")
            tokenized = json.loads(out.read_text())
            make_stores(config)  # validation rows too: the trainer would tokenize them before its first step
            os.sync()  # otherwise the first step waits for earlier writes
            trained = train(config, Path(place), 1, steps)
        yield (
            f"{count:>12,} {tokenized['rate']:>9,.0f} {tokenized['share']:>8.2f}"
            f" {tokenized['more']:>8.0f} {trained.first_step:>14.2f} {trained.memory:>11.0f}"
        )


def processes_report(scratch: Path, pairs: list[tuple[str, str]], steps: int, budget: int) -> Iterator[str]:
    """A line of the table for one process and for two, on the same rows."""
    yield f"{'processes':>12} {'label tokens/s':>15} {'communication':>14} {'rank 0 MB':>10} {'together MB':>12}"
    for processes in (1, 2):
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            config = replace(configured(scratch, Path(place), budget), gradient_accumulation_steps=2 // processes)
            write_rows(Path(config.train_file), pairs, 3000)
            make_stores(config)
            found = train(config, Path(place), processes, steps)
        yield (
            f"{processes:>12} {found.rate:>15,.0f} {found.communication:>14.1%}"
            f" {found.memory:>10.0f} {found.together:>12.0f}"
        )


def main() -> int:
    """Prints both tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--counts", type=int, nargs="*", default=[3_000, 100_000, 1_000_000])
    options.add_argument("--size", default="tiny", help="tiny (11 M) or chatlm (188 M)")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--budget", type=int, default=512, help="micro_batch_tokens")
    options.add_argument("--rows", type=Path, help="Parquet with prompt and response; the demo's rows without it")
    options.add_argument("--tokenize", nargs=2, type=Path, metavar=("CONFIG", "OUT"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.tokenize:
        settings, out = given.tokenize
        out.write_text(json.dumps(tokenize(from_json(json.loads(settings.read_text())))))
        return 0
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {given.size}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        assets.write(scratch / "assets", given.size, 160, given.rows)
        pairs = assets.pairs(given.rows)
        for line in itertools.chain(
            processes_report(scratch, pairs, given.steps, given.budget),
            rows_report(scratch, given.counts, pairs, given.steps, given.budget),
        ):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
