"""Compares training of a chat model with TRL's: `python -m bench.chat --peers PEERS/bin/python --kept FILE.jsonl`.

Every contestant makes a whole pass over the same English pairs of chatterbot-corpus, 16 rows a step, in a process of
its own; all of them in turn, as often as requested; figures are medians, ratios are taken turn by turn. In the first
turn all of TRL's recipes run, in the others its defaults and the fastest, and for all weights also the fastest of those
whose weights are fp32; the leanest is compared by its memory, which hardly varies. The whole pass counts for speed,
from the start of the first step to the end of the last, since recipes that sort rows by length have the longest in
their first step. Memory is the largest resident set of a process from its start to its end. In every turn the machine's
rate of matrix products is measured.

The same for all: the rows in full (none reaches a limit), AdamW, the gradient's norm limited to 1, LoRA of rank 16 on
all linear layers but the head, and the loss of a step as the mean over its learned tokens. The table says how many
tokens each learned if that differs. What differs:

- ours puts rows end to end, TRL pads them (`packed`: up to 1,024 tokens, which are then a step);
- TRL learns one more token of each row, what the template writes behind the stop token; it is not counted for speed;
- TRL's defaults compute in bf16 with fp32 weights; `defaults in fp32` switches that off. In its recipes with
  bf16 weights those that learn are bf16 too, apart from adapters, and lose small updates. Ours learns in fp32;
- ours also evaluates, saves a checkpoint and publishes models behind the pass, which counts towards its memory;
- ours runs with the environment in which sft-tui starts it, TRL with the user's.

Each measurement is added to FILE at once. What fails is printed and left out of the table. After an interruption, which
ends what this program started and prints the table so far, the same call measures what is missing, unless the code
has changed since. Two quiet cores take 38 minutes for the first turn and about 17 for each other.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from bench.chat_assets import write_rows
from bench.chat_flops import flops_of_token
from bench.chat_found import Figures, Found
from bench.chat_table import LEARNS, PRECISIONS, WHO, Contestant, finalists, table
from bench.children import ended, raise_on_signals
from bench.machine import machine
from bench.training import STEP_ROWS, products, trained
from engine.contract.config import RunConfig
from engine.contract.events import Step
from engine.contract.presets import preset
from engine.contract.stream import EventReader
from sft_tui import demo_model

VALIDATION_ROWS = 96
FAST = ("--by-length", "--keep-activations")  # what makes a recipe of TRL fast, with its dtypes
MEASURED = (
    "engine",
    "bench/chat.py",
    "bench/chat_peer.py",
    "bench/chat_replies.py",
    "bench/peers.txt",
    "constraints.txt",
)
IMPORTS = "import torch; from transformers import AutoTokenizer, LlamaForCausalLM"


def _peers(learns: str, recipes: dict[str, tuple[str, ...]]) -> list[Contestant]:
    return [Contestant(f"TRL, {name}", learns, options=options) for name, options in recipes.items()]


CONTESTANTS = [
    Contestant("ours, 1,024 tokens", "lora", 1024),
    Contestant("ours, 256 tokens", "lora", 256),
    *_peers(
        "lora",
        {
            "defaults": (),
            "defaults in fp32": ("--fp32",),
            "fast by 8, bf16 weights": ("--bf16-weights", *FAST),
            "fast by 4, bf16 weights": ("--bf16-weights", "--micro-batch", "4", *FAST),
            "packed, bf16 weights": ("--bf16-weights", "--packing", "--micro-batch", "1"),
            "lean by 1, bf16 weights": ("--bf16-weights", "--micro-batch", "1"),
        },
    ),
    Contestant("ours, 1,024 tokens", "all", 1024),
    Contestant("ours, 256 tokens", "all", 256),
    *_peers(
        "all",
        {
            "defaults": (),
            "defaults in fp32": ("--fp32",),
            "fast by 4, bf16 weights": ("--bf16-weights", "--micro-batch", "4", *FAST),
            "fast by 4, fp32 weights": ("--micro-batch", "4", *FAST),
            "lean by 1, bf16 weights": ("--bf16-weights", "--micro-batch", "1"),
            "lean by 1, fp32 weights": ("--micro-batch", "1"),
        },
    ),
]


@dataclass(frozen=True)
class Measured:
    """One training: rates over its whole pass, and figures of the whole process."""

    label_tokens: float  # a second
    tokens: float  # a second, prompts included
    memory: float  # MB, the largest resident set
    first_step: float  # seconds from the start of the process to the end of its first step
    learned: int  # label tokens of the pass
    step: float = 0.0  # seconds of the first step
    flops: float = 0.0  # useful ones a second


@dataclass(frozen=True)
class Assets:
    """What all contestants share."""

    model: Path
    train: Path
    valid: Path
    stores: Path
    peers: Path  # the interpreter of TRL's environment


def configured(assets: Assets, scratch: Path, learns: str, budget: int) -> RunConfig:
    """The settings of our run."""
    return replace(
        preset("chat-lora" if learns == "lora" else "chat").config,
        train_file=str(assets.train),
        validation_file=str(assets.valid),
        token_store=str(assets.stores),
        tokenizer=str(assets.model),
        pretrained_model=str(assets.model),
        output_dir=str(scratch / "out"),
        batch_size_per_gpu=STEP_ROWS,
        gradient_accumulation_steps=1,
        micro_batch_tokens=budget,
        loss_chunk_tokens=256,
        mixed_precision="bf16",
        epochs=1,
        eval_on_start="no",  # TRL does not evaluate before its first step
        eval_rows=16,
        bleu_rows=4,
        max_new_tokens=8,
    )


def ours(assets: Assets, scratch: Path, one: Contestant) -> Measured:
    """A run by this project's trainer."""
    began = time.monotonic()
    run_dir, memory = trained(configured(assets, scratch, one.learns, one.budget), scratch)
    records = [found for found in EventReader(run_dir.events).poll() if isinstance(found.event, Step)]
    steps = [record.event for record in records if isinstance(record.event, Step)]
    seconds = records[-1].envelope.mono - records[0].envelope.mono + steps[0].seconds
    labels, tokens = sum(step.label_tokens for step in steps), sum(step.tokens for step in steps)
    of_token, of_label = flops_of_token(assets.model, lora=one.learns == "lora")
    return Measured(
        label_tokens=labels / seconds,
        tokens=tokens / seconds,
        memory=memory,
        first_step=records[0].envelope.mono - began,
        learned=labels,
        step=steps[0].seconds,
        flops=(of_token * tokens + of_label * labels) / seconds,
    )


def peer(assets: Assets, scratch: Path, one: Contestant) -> Measured:
    """The same pass by TRL."""
    result = scratch / "result.json"
    learns = ("--lora",) if one.learns == "lora" else ()
    program = [str(assets.peers), "-m", "bench.chat_peer"]
    command = [*program, str(assets.model), str(assets.train), str(result), *learns, *one.options]
    memory = ended(command, {**os.environ, "TOKENIZERS_PARALLELISM": "true"}, scratch / "log")
    found = json.loads(result.read_text())
    return Measured(
        label_tokens=found["label_tokens"] / found["seconds"],
        tokens=found["tokens"] / found["seconds"],
        memory=memory,
        first_step=found["first_step"],
        learned=found["label_tokens"],
    )


def imports(scratch: Path) -> Figures:
    """Seconds of a process that imports what every trainer of a chat model imports from torch and transformers."""
    began = time.monotonic()
    ended([sys.executable, "-c", IMPORTS], dict(os.environ), scratch / "log")
    return {"seconds": time.monotonic() - began}


def replied(assets: Assets, who: str, precision: str, scratch: Path) -> Figures:
    """Replies to the validation prompts; see `bench.chat_replies`."""
    out = scratch / "replies.json"
    command = [sys.executable, "-m", "bench.chat_replies", who, str(assets.model), str(assets.valid), str(out)]
    ended([*command, "--precision", precision], dict(os.environ), scratch / "log")
    found: Figures = json.loads(out.read_text())
    return found


def trained_by(assets: Assets, one: Contestant, scratch: Path) -> Figures:
    """The figures of a contestant's training."""
    return asdict((ours if one.budget else peer)(assets, scratch, one))


def products_in_bf16(_scratch: Path) -> Figures:
    """The machine's rate, GFLOP/s."""
    return {"rate": products()[1]}


def jobs(assets: Assets, running: list[Contestant]) -> dict[str, Callable[[Path], Figures]]:
    """What is measured in a turn, in this order; each gets an empty folder."""
    planned: dict[str, Callable[[Path], Figures]] = {}
    for one in running:
        planned[one.key] = partial(trained_by, assets, one)
        planned.setdefault(f"products, {one.learns}", products_in_bf16)
    planned["imports"] = imports
    for who in WHO:
        for precision in PRECISIONS:
            planned[f"replies, {who}, {precision}"] = partial(replied, assets, who, precision)
    return planned


def measure(assets: Assets, found: Found, turns: int, contestants: list[Contestant]) -> None:
    """Measures all contestants in turn, apart from what was measured before."""
    for turn in range(turns):
        running = contestants if turn == 0 else finalists(found, contestants)
        planned = jobs(assets, running)
        for number, (name, job) in enumerate(planned.items(), 1):
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as place:
                done = found.take(name, turn, partial(job, Path(place)))
            result = _line(found.taken[name][turn]) if done else f"failed: {found.failed[name][turn]}"
            took = f"turn {turn + 1} of {turns}, {number} of {len(planned)}, {time.monotonic() - began:.0f} s"
            print(f"  {took}: {name}: {result}", file=sys.stderr, flush=True)


def _line(figures: Figures) -> str:
    numbers = ((what, value) for what, value in figures.items() if isinstance(value, int | float))
    return ", ".join(f"{what} {value:,.{2 if value < 100 else 0}f}" for what, value in numbers)


def _about(given: argparse.Namespace, model: Path) -> dict[str, str]:
    """What figures of one table must have in common."""
    return {"machine": machine(), "version": _version(), "model": str(model), "rows": str(given.rows)}


def _version() -> str:
    """The last commit of what is measured and of what measures it; empty outside git."""
    ran = partial(subprocess.run, cwd=Path(__file__).parents[1], check=False, capture_output=True, text=True)
    commit = ran(["git", "log", "-1", "--format=%h", "--", *MEASURED]).stdout.strip()
    return f"{commit}, changed" if ran(["git", "status", "--porcelain", "--", *MEASURED]).stdout else commit


def main() -> int:
    """Measures and prints the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", type=Path, help="a folder of a chat model; the demo's without it")
    options.add_argument("--peers", type=Path, required=True, help="the interpreter of an environment with TRL")
    options.add_argument("--kept", type=Path, required=True, help="the file of measurements; resumed if not complete")
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--rows", type=int, default=320)
    options.add_argument("--only", choices=LEARNS, help="LoRA or all weights alone")
    given = options.parse_args()
    raise_on_signals()
    model = (given.model or demo_model.obtain()).absolute()
    contestants = [one for one in CONTESTANTS if given.only in (None, one.learns)]
    about = _about(given, model)
    found = Found.resumed(given.kept, about)
    interrupted = False
    with tempfile.TemporaryDirectory() as place:
        train, valid, stores = (Path(place) / name for name in ("train.parquet", "valid.parquet", "token_store"))
        assets = Assets(model, train, valid, stores, given.peers.absolute())
        try:
            write_rows(assets.train, assets.valid, given.rows, VALIDATION_ROWS)
            measure(assets, found, given.turns, contestants)
        except KeyboardInterrupt:
            interrupted = True
    caption = f"{model.name}, {given.rows} rows, version {about['version']}; {about['machine']}"
    print("\n".join(table(found, contestants, caption)), flush=True)
    if interrupted or found.failed:
        print(f"\nNot complete: the same call measures what is missing and keeps the rest, which is in {given.kept}.")
    else:
        print(f"\nAll measurements: {found.put_away()}")
    return 128 + signal.SIGINT if interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
