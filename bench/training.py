"""What training costs, beside transformers' own trainer: `python -m bench.training --size tiny`.

Every contestant trains one pass over the same rows in a process of its own, all of them in turn, as often as asked;
figures are medians. Steps after the first count for speed; memory is the largest resident set of the process from its
start to its end. In the same run the machine's rate of matrix products is measured.
"""

import argparse
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.contract.config import to_json
from engine.contract.events import Step
from engine.contract.presets import preset
from engine.contract.rundir import RunDir, RunRecord
from engine.contract.stream import EventReader
from sft_tui.ranks import trainer_environment

STEP_ROWS = 16
LIMIT_SECONDS = 3600.0  # of one contestant
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
    """One training: label tokens a second after the first step, peak memory in MB, the losses of its steps."""

    label_tokens: float
    memory: float
    losses: list[float]


def ended(command: list[str], env: dict[str, str], log: Path) -> float:
    """The largest resident set, in MB, of a process that runs `command` to its end; raises RuntimeError if it fails."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{command} took more than {LIMIT_SECONDS:.0f} s")
            time.sleep(0.05)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}:\n{log.read_text(errors='replace')[-2000:]}")
    return usage.ru_maxrss * 1024 / 1e6


def ours(assets: Path, scratch: Path, precision: str) -> Measured:
    """One epoch by this project's trainer, its evaluation, checkpoint and publication included in the memory."""
    config = replace(
        preset("sft-small").config,
        train_file=str(assets / "train.parquet"),
        validation_file=str(assets / "valid.parquet"),
        token_store=str(scratch / "token_store"),
        tokenizer=str(assets / "model"),
        pretrained_model=str(assets / "model"),
        output_dir=str(scratch / "out"),
        mixed_precision=precision,
        epochs=1,
        batch_size_per_gpu=STEP_ROWS,
        gradient_accumulation_steps=1,
        bleu_rows=4,
        max_new_tokens=8,
    )
    run_dir = RunDir(scratch / "logs" / "bench-1")
    run_dir.path.mkdir(parents=True)
    record = RunRecord("bench-1", "sft-small", "train", to_json(config))
    run_dir.write_record(record)
    command = [sys.executable, "-m", "engine.train", str(run_dir.path)]
    memory = ended(command, trainer_environment(record, None), scratch / "log")
    steps = [found.event for found in EventReader(run_dir.events).poll() if isinstance(found.event, Step)]
    seconds = sum(s.seconds_data + s.seconds_forward_backward + s.seconds_optimizer for s in steps[1:])
    return Measured(sum(s.label_tokens for s in steps[1:]) / seconds, memory, [s.loss for s in steps])


def standard(assets: Path, scratch: Path, *options: str) -> Measured:
    """The same epoch by transformers' trainer."""
    result = scratch / "result.json"
    env = {**os.environ, "TOKENIZERS_PARALLELISM": "true"}
    command = [sys.executable, "-m", "bench.standard", str(assets), str(result), *options]
    memory = ended(command, env, scratch / "log")
    found = json.loads(result.read_text())
    return Measured(sum(found["label_tokens"]) / sum(found["seconds"]), memory, found["losses"])


def variants(*, every: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names and options of the standard's recipes: its default, and those among which its best is sought."""
    yield "standard, default", ()
    for micro_batch, by_length in itertools.product((1, 4, 8, 16), (False, True)):
        if every or micro_batch in (1, 4):
            ordered = ", by length" if by_length else ""
            options = ("--bf16", "--micro-batch", str(micro_batch), *(("--by-length",) if by_length else ()))
            yield f"standard, bf16, {micro_batch}{ordered}", options


def measure(assets: Path, repeats: int, *, every: bool) -> dict[str, list[Measured]]:
    """Every contestant's measurements, taken in turn; what is slow of the standard is tried once only."""
    found: dict[str, list[Measured]] = {}
    recipes = dict(variants(every=every))
    for turn in range(repeats):
        with tempfile.TemporaryDirectory() as place:
            for precision in ("bf16", "fp32"):
                scratch = Path(place) / precision
                scratch.mkdir()
                found.setdefault(f"ours, {precision}", []).append(ours(assets, scratch, precision))
            for number, (name, options) in enumerate(recipes.items()):
                scratch = Path(place) / str(number)
                scratch.mkdir()
                found.setdefault(name, []).append(standard(assets, scratch, *options))
        print(f"  turn {turn + 1} of {repeats}", file=sys.stderr, flush=True)
        best = max(list(recipes)[1:], key=lambda name: speed(found[name]))
        recipes = {name: options for name, options in recipes.items() if name in ("standard, default", best)}
    return found


def speed(measured: list[Measured]) -> float:
    """The median of label tokens a second."""
    return statistics.median(one.label_tokens for one in measured)


def main() -> int:
    """Prints the table of one size."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", default="tiny", help="tiny (11 M) or chatlm (188 M)")
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--rows", type=Path, help="Parquet with prompt and response; the demo's rows without it")
    options.add_argument("--every", action="store_true", help="micro-batches of 8 and 16 rows for the standard too")
    given = options.parse_args()
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    print(f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as place:
        assets = Path(place) / "assets"
        source = ["--source", str(given.rows)] if given.rows else []
        rows = ["--rows", str(STEP_ROWS * given.steps), *source]
        command = [sys.executable, "-m", "bench.assets", str(assets), "--size", given.size, *rows]
        ended(command, dict(os.environ), Path(place) / "log")
        products = subprocess.run([sys.executable, "-c", PRODUCTS], check=True, capture_output=True, text=True)
        fp32, bf16 = (float(line) for line in products.stdout.split())
        print(f"matrix products: {fp32:.0f} GFLOP/s in fp32, {bf16:.0f} in bf16")
        found = measure(assets, given.repeats, every=given.every)
    default = found["standard, default"]
    print(f"{given.size}, {given.steps} steps of {STEP_ROWS} rows")
    print(f"{'':<30} {'label tokens/s':>14} {'x default':>10} {'peak MB':>9} {'x default':>10}  turns")
    memory = statistics.median(one.memory for one in default)
    for name, measured in found.items():
        peak, rate = statistics.median(one.memory for one in measured), speed(measured)
        told = f"{name:<30} {rate:>14,.0f} {rate / speed(default):>10.2f} {peak:>9,.0f} {peak / memory:>10.2f}"
        print(f"{told}  {len(measured)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
