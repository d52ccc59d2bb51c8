"""Measures training on one GPU next to standard trainers, in at most 8 minutes: `python -m bench.gpu --device cuda`.

Prints one table: label tokens a second and peak memory of ours, of transformers' Seq2SeqTrainer on a T5 of 188 M
parameters and of TRL's SFTTrainer on SmolLM2-135M (each with its defaults and with fast recipes); how far the losses
of ten steps are from the same in fp32 on the CPU, of the chat model also with padded rows in place of rows end to end;
the peak that a rehearsal predicts; a run that is killed and resumed; and the tests marked `gpu`. Nothing is downloaded:
weights are random, apart from SmolLM2's if the demo's model is kept or --model names its folder. Neither speed nor
memory depends on them.

All make a pass over the same rows, 16 a step, each in a separate process. The first steps, in which a GPU's libraries
start, do not count for speed. Memory is what torch's allocator took of the GPU at most; with --device cpu, where all
of it runs with tiny models to be tested, it is the largest resident set.

Each measurement has a limit of time and ends with it; when the minutes are over, the rest is left out: what matters
least comes last. Figures are printed as they are found, with the end of the log of what failed; the table comes at the
end, whatever happened before, and says in its line why a figure is missing.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bench import chat, gpu_tests, training
from bench.children import ended, raise_on_signals
from bench.gpu_table import (
    BF16_PADDED,
    CHAT,
    CPU,
    OURS,
    OURS_PADDED,
    RESUME,
    SIDES,
    T5,
    TESTS,
    Figures,
    Found,
    apart,
    names,
    rehearsed,
    table,
    trained,
)
from bench.gpu_table import losses as steps_named
from bench.machine import machine
from engine.contract.config import RunConfig
from engine.contract.events import Event, Notice, Rehearsed, RunEnded, Step
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from sft_tui import demo_model
from sft_tui.supervise.ranks import trainer_environment

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
WARM_UP = 3  # steps
SAVED_AT, KILLED_AFTER = 4, 6  # steps of the run that is killed
LONGEST_REASON, LONGEST_LOG = 160, 12_000  # characters
ASSETS_SECONDS, TESTS_SECONDS, PROBE_SECONDS = 120.0, 150.0, 60.0
SECONDS = 60.0  # for any other measurement
PROBE = "import torch; d = torch.cuda.get_device_properties(0); print(f'{d.name}, {d.total_memory / 1e9:.1f} GB')"
STANDARD = {
    SIDES[0].default: (),
    SIDES[0].fast[0]: ("--bf16", "--micro-batch", "8", "--by-length"),
    SIDES[0].fast[1]: ("--bf16", "--micro-batch", "16", "--by-length"),
}
TRL = {
    SIDES[1].default: (),
    SIDES[1].fast[0]: ("--micro-batch", "16", *chat.FAST),
    SIDES[1].fast[1]: ("--micro-batch", "16", "--bf16-weights", *chat.FAST),
    SIDES[1].fast[2]: ("--micro-batch", "1", "--bf16-weights", "--packing"),
}


class UnavailableError(Exception):
    """Something that a measurement needs is not installed or was not measured; the text says what."""


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    assets: Path
    device: str
    peers: Path
    budget: int
    ends: float  # of `time.monotonic`
    found: Found = field(default_factory=Found)

    def left(self, limit: float) -> float:
        """The seconds that a measurement may take, at most `limit`."""
        return min(limit, self.ends - time.monotonic())

    def environment(self, device: str, base: dict[str, str], *, every_gpu: bool = False) -> dict[str, str]:
        """The variables that leave a process the CPU alone, or one GPU: with more, transformers' trainer takes all."""
        env = {name: value for name, value in base.items() if name != "ACCELERATE_USE_CPU"} | {"HF_HUB_OFFLINE": "1"}
        if device == "cpu":
            return {**env, "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        return env if every_gpu else {**env, "CUDA_VISIBLE_DEVICES": first}

    def config(self, side: str, scratch: Path, precision: str) -> RunConfig:
        """The settings of our run on all rows."""
        place = self.assets / ("t5" if side == T5 else "chat")
        if side == T5:
            config = training.configured(place, scratch, loss_chunk_tokens=256, epochs=1)
        else:
            shared = chat.Assets(
                place / "model", place / "train.parquet", place / "valid.parquet", scratch / "store", self.peers
            )
            config = chat.configured(shared, scratch, "lora", self.budget)
        measured: dict[str, Any] = {"eval_rows": 16, "bleu_rows": 4, "max_new_tokens": 8}
        return replace(config, mixed_precision=precision, micro_batch_tokens=self.budget, **measured)

    def short_config(self, side: str, scratch: Path, precision: str) -> RunConfig:
        """The settings of ten steps of four rows, without dropout, at a rate that moves the weights."""
        place = self.assets / ("t5" if side == T5 else "chat")
        model = place / ("without_dropout" if side == T5 else "model")
        return replace(
            self.config(side, scratch, precision),
            train_file=str(place / "few.parquet"),
            pretrained_model=str(model),
            tokenizer=str(model),
            batch_size_per_gpu=4,
            learn_rate=1e-4,
            div_factor=10,
            warmup_steps=0,
            warmup_ratio=0.0,
            eval_rows=4,
            bleu_rows=1,
            max_new_tokens=1,
        )


def run(bench: Bench, job: str, run_dir: RunDir, device: str, limit: float, *options: str) -> Figures:
    """A job of our trainer to its end: the peak of its memory in MB, of the GPU or else its largest resident set."""
    result, record = run_dir.path / "result.json", run_dir.read_record()
    command = [sys.executable, "-m", "bench.gpu_trainer", job, str(run_dir.path), str(result), *options]
    env = bench.environment(device, trainer_environment(record, None))
    resident = ended(command, env, run_dir.path / "log", limit)
    return {"memory": json.loads(result.read_text())["device_memory"] or resident}


def events_of(run_dir: RunDir) -> list[Event]:
    """The events so far."""
    return [record.event for record in EventReader(run_dir.events).poll()]


def planned(config: RunConfig, scratch: Path, job: str) -> RunDir:
    """The folder of a run that is about to begin."""
    run_dir, record = training.planned(config, scratch)
    run_dir.write_record(replace(record, job=job))
    return run_dir


def explained(run_dir: RunDir, work: Callable[[], Figures]) -> Figures:
    """What `work` returns; if it fails, RuntimeError says how the run ended, if it reports that."""
    try:
        return work()
    except RuntimeError:
        said = [event.message.text() for event in events_of(run_dir) if isinstance(event, RunEnded)]
        if not said:
            raise
        raise RuntimeError(said[-1]) from None


def rate(label_tokens: list[int], seconds: list[float]) -> float:
    """Label tokens a second of the steps behind the warm-up; both are of the steps after the first.

    Raises UnavailableError if there are none.
    """
    if not seconds:
        raise UnavailableError("a pass of one step has no speed: give it more --rows")
    skipped = min(WARM_UP, len(seconds)) - 1
    return sum(label_tokens[skipped:]) / sum(seconds[skipped:])


def ours(bench: Bench, side: str, options: tuple[str, ...], scratch: Path) -> Figures:
    """A pass by this project's trainer, which also evaluates, saves and publishes behind it."""
    run_dir = planned(bench.config(side, scratch, "bf16"), scratch, "train")
    figures = explained(run_dir, partial(run, bench, "train", run_dir, bench.device, bench.left(SECONDS), *options))
    records = [record for record in EventReader(run_dir.events).poll() if isinstance(record.event, Step)]
    ends = [record.envelope.mono for record in records]
    seconds = [after - before for before, after in itertools.pairwise(ends)]
    counts = [record.event.label_tokens for record in records if isinstance(record.event, Step)]
    found = {**figures, "label_tokens": rate(counts[1:], seconds)}
    return found if side == T5 or options else {**found, "rows": layout(run_dir)}


def layout(run_dir: RunDir) -> str:
    """How the rows of a causal model lay, by what the run said."""
    notices = (event.message for event in events_of(run_dir) if isinstance(event, Notice))
    why = [message.text() for message in notices if message.code == "rows_padded"]
    return f"padded: {why[0]}" if why else "rows end to end"


def standard(bench: Bench, options: tuple[str, ...], scratch: Path) -> Figures:
    """The same pass by transformers' trainer."""
    result = scratch / "result.json"
    command = [sys.executable, "-m", "bench.standard", str(bench.assets / "t5"), str(result), *options]
    found, resident = _by_peer(bench, command, result)
    return {
        "label_tokens": rate(found["label_tokens"], found["seconds"]),
        "memory": found["device_memory"] or resident,
    }


def by_trl(bench: Bench, options: tuple[str, ...], scratch: Path) -> Figures:
    """The same pass by TRL; raises UnavailableError without it."""
    require_trl(bench)
    place, result = bench.assets / "chat", scratch / "result.json"
    command = [str(bench.peers), "-m", "bench.chat_peer", str(place / "model"), str(place / "train.parquet")]
    found, resident = _by_peer(bench, [*command, str(result), "--lora", *options], result)
    return {
        "label_tokens": rate(found["later_label_tokens"], found["later_seconds"]),
        "memory": found["device_memory"] or resident,
    }


def _by_peer(bench: Bench, command: list[str], result: Path) -> tuple[dict[str, Any], float]:
    env = bench.environment(bench.device, {**os.environ, "TOKENIZERS_PARALLELISM": "true"})
    resident = ended([*command, "--device", bench.device], env, result.with_name("log"), bench.left(SECONDS))
    return json.loads(result.read_text()), resident


def require_trl(bench: Bench) -> None:
    """Raises UnavailableError if the interpreter of the peers has no TRL."""
    needed = "import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, ('trl', 'peft', 'datasets'))))"
    asked = [str(bench.peers), "-c", needed]
    with suppress(OSError):
        if not subprocess.run(asked, check=False, capture_output=True, timeout=bench.left(PROBE_SECONDS)).returncode:
            return
    raise UnavailableError("TRL is not installed: `make .venv-peers/done` installs it, once, from the package index")


def few_steps(bench: Bench, side: str, how: str, scratch: Path) -> Figures:
    """The losses of ten steps of ours."""
    precision, device = ("fp32", "cpu") if how == CPU else (how, bench.device)
    options = ["--padded"] if how == BF16_PADDED else []
    run_dir = planned(bench.short_config(side, scratch, "bf16" if options else precision), scratch, "train")
    explained(run_dir, partial(run, bench, "train", run_dir, device, bench.left(SECONDS), *options))
    return {"losses": [event.loss for event in events_of(run_dir) if isinstance(event, Step)]}


def rehearsal(bench: Bench, side: str, scratch: Path) -> Figures:
    """The peak that a rehearsal of our measured run finds, in MB."""
    run_dir = planned(bench.config(side, scratch, "bf16"), scratch, "rehearse")
    explained(run_dir, partial(run, bench, "rehearse", run_dir, bench.device, bench.left(SECONDS)))
    found = next(event for event in events_of(run_dir) if isinstance(event, Rehearsed))
    return {"memory": (sum(found.gpu_memory) or found.peak_memory_found) / 1e6}


def resumed(bench: Bench, scratch: Path) -> Figures:
    """Compares the losses of a run that was killed and resumed with those of the run that was not."""
    name = steps_named(CHAT, "fp32")
    if name not in bench.found.figures:
        raise UnavailableError(f"the run to compare with is missing ({bench.found.why(name)})")
    uncut, until = bench.found.figures[name]["losses"], time.monotonic() + bench.left(SECONDS)
    config = replace(bench.short_config(CHAT, scratch, "fp32"), save_steps=SAVED_AT)
    run_dir = planned(config, scratch, "train")
    with suppress(RuntimeError):  # it kills itself
        run(bench, "train", run_dir, bench.device, until - time.monotonic(), "--killed-after", str(KILLED_AFTER))
    before = [event.step for event in events_of(run_dir) if isinstance(event, Step)]
    if before != list(range(1, KILLED_AFTER + 1)):
        raise RuntimeError(f"it was to be killed after step {KILLED_AFTER}, and did the steps {before}")
    run_dir.write_record(replace(run_dir.read_record(), resume=True))
    explained(run_dir, partial(run, bench, "train", run_dir, bench.device, until - time.monotonic()))
    again = [event for event in events_of(run_dir) if isinstance(event, Step)][KILLED_AFTER:]
    if [event.step for event in again] != list(range(SAVED_AT + 1, len(uncut) + 1)):
        raise RuntimeError(f"resumed from step {SAVED_AT}, it did the steps {[event.step for event in again]}")
    far = apart([event.loss for event in again], uncut[SAVED_AT:])
    steps = f"killed after step {KILLED_AFTER}, resumed from {SAVED_AT}"
    same = f"losses of steps {SAVED_AT + 1} to {len(uncut)} "
    return {"result": f"{steps}: {same}{f'at most {far:.1e} apart from' if far else 'equal'} those of the uncut run"}


def marked_tests(bench: Bench, scratch: Path) -> Figures:
    """The outcome of the tests that are marked `gpu`; on the CPU, of those that try them there."""
    log, command = scratch / "log", gpu_tests.command(bench.device)
    base = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    env = bench.environment(bench.device, base, every_gpu=True)  # some tests need two
    try:
        ended(command, env, log, bench.left(TESTS_SECONDS))
    except (RuntimeError, TimeoutError):
        if not log.exists() or not gpu_tests.outcome(log.read_text(errors="replace")):
            raise
        print(log.read_text(errors="replace")[-LONGEST_LOG:], file=sys.stderr)
    return {"result": gpu_tests.outcome(log.read_text(errors="replace"))}


def jobs(bench: Bench) -> dict[str, Callable[[Path], Figures]]:
    """The measurements, by their names in the table; each gets an empty folder."""
    planned: dict[str, Callable[[Path], Figures]] = {
        RESUME: partial(resumed, bench),
        TESTS: partial(marked_tests, bench),
    }
    for side in SIDES:
        name = side.name
        planned[trained(name, OURS)] = partial(ours, bench, name, ())
        if side.end_to_end:
            planned[trained(name, OURS_PADDED)] = partial(ours, bench, name, ("--padded",))
        for who in (side.default, *side.fast):
            peer = partial(standard, bench, STANDARD[who]) if name == T5 else partial(by_trl, bench, TRL[who])
            planned[trained(name, who)] = peer
        for how in (CPU, *side.precisions):
            planned[steps_named(name, how)] = partial(few_steps, bench, name, how)
        planned[rehearsed(name)] = partial(rehearsal, bench, name)
    return planned


def measure(bench: Bench, wanted: list[str]) -> None:
    """Takes the measurements whose names contain one of the texts `wanted`, or all; none of them stops another."""
    planned = jobs(bench)
    for name in names():
        if wanted and not any(text in name for text in wanted):
            bench.found.missing[name] = "not asked for"
        elif bench.left(SECONDS) < 1:
            bench.found.missing[name] = "not begun: the time was over"
        else:
            take(bench, name, planned[name])


def take(bench: Bench, name: str, job: Callable[[Path], Figures]) -> None:
    """Takes one measurement, or notes why it is missing."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
            bench.found.figures[name] = job(Path(place))
        said = json.dumps(bench.found.figures[name], ensure_ascii=False)
    except Exception as error:  # of any kind: the others' figures must not be lost
        said = bench.found.missing[name] = reason(error, time.monotonic() - began)
        if not isinstance(error, UnavailableError):
            print(str(error)[-LONGEST_LOG:], file=sys.stderr)
    print(f"  {time.monotonic() - began:.0f} s: {name}: {said}", file=sys.stderr, flush=True)


def reason(error: Exception, seconds: float) -> str:
    """Why a measurement is missing, on one short line."""
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
        return f"cut after {seconds:.0f} s"
    said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    said = said if len(said) <= LONGEST_REASON else f"{said[: LONGEST_REASON - 1]}…"
    return said if isinstance(error, UnavailableError) else f"failed: {said}"


def write_assets(bench: Bench, size: str, rows: int, model: Path | None) -> str:
    """Writes rows and models; returns why that failed, or an empty text."""
    chosen = ["--model", str(model)] if model else []
    command = [sys.executable, "-m", "bench.gpu_assets", str(bench.assets), "--size", size, "--rows", str(rows)]
    env = bench.environment("cpu", dict(os.environ))
    began = time.monotonic()
    try:
        ended([*command, *chosen], env, bench.assets.with_name("log"), bench.left(ASSETS_SECONDS))
    except Exception as error:  # the rest of the table is still printed
        return f"without models and rows ({reason(error, time.monotonic() - began)})"
    return ""


def gpu() -> str:
    """The name and the memory of the GPU; empty if torch finds none."""
    command = [sys.executable, "-c", PROBE]
    try:
        asked = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return ""
    return asked.stdout.strip() if not asked.returncode else ""


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options.add_argument("--size", choices=("full", "toy"), help="full on a GPU and toy on the CPU without it")
    options.add_argument("--minutes", type=float, default=8.0, help="in all")
    options.add_argument("--rows", type=int, help="a multiple of 16: 320, or 64 of toys")
    options.add_argument("--budget", type=int, default=2048, help="micro_batch_tokens of our runs")
    options.add_argument("--model", type=Path, help="a folder of a chat model instead of SmolLM2")
    options.add_argument("--peers", type=Path, default=PEERS, help="the interpreter of an environment with TRL")
    options.add_argument("--only", nargs="*", default=[], help="parts of the names of measurements")
    return options


def main() -> int:
    """Measures and prints the table."""
    given = parser().parse_args()
    ends = time.monotonic() + 60 * given.minutes - 5  # seconds to end what runs, and to print
    raise_on_signals()
    size = given.size or ("full" if given.device == "cuda" else "toy")
    name = "the CPU alone, resident memory" if given.device == "cpu" else gpu()
    if not name:
        print("torch finds no GPU here; --device cpu runs all of it with tiny models", file=sys.stderr)
        return 2
    kept = demo_model.folder() if size == "full" and demo_model.is_kept() else None
    model = given.model or kept
    weights = str(model.name) if model else f"random weights of SmolLM2's shape ({size})"
    interrupted = False
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        bench = Bench(Path(place) / "assets", given.device, given.peers.absolute(), given.budget, ends)
        try:
            rows = given.rows or (320 if size == "full" else 64)
            if why := write_assets(bench, size, rows, model):
                bench.found.missing.update(dict.fromkeys(names(), why))
            else:
                measure(bench, given.only)
        except KeyboardInterrupt:
            interrupted = True
    caption = f"{name}; {machine()}; T5: random weights ({size}); chat model: {weights}"
    print("\n".join(table(bench.found, caption)), flush=True)
    return 128 + signal.SIGINT if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
