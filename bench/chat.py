"""Compares training of a chat model with TRL's: `python -m bench.chat --peers PEERS/bin/python`.

Every contestant makes a whole pass over the same English pairs of chatterbot-corpus, 16 rows a step, in a process of
its own; all of them in turn, as often as requested; figures are medians. In the first turn all of TRL's recipes run, in
the others its defaults, the fastest and the leanest. The whole pass counts for speed, since recipes that sort rows by
length have the longest in their first step; memory is the largest resident set of a process from its start to its end,
to which our evaluation, checkpoint and published models count.
In every turn the machine's rate of matrix products is measured. About 20 minutes for the first turn and 13 for each
other; `--rows 96 --turns 1` takes about 8 in all.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.chat_assets import write_rows
from bench.chat_flops import flops_of_token
from bench.training import STEP_ROWS, ended, products, trained
from engine.contract.config import RunConfig
from engine.contract.events import Step
from engine.contract.presets import preset
from engine.contract.stream import EventReader
from sft_tui import demo_model

VALIDATION_ROWS = 96
LEARNS = {"lora": "LoRA r 16", "all": "all weights"}
FAST = ("--by-length", "--chunked-loss", "--keep-activations")  # what makes a recipe of TRL fast, with its dtypes
IMPORTS = "import torch; from transformers import AutoTokenizer, LlamaForCausalLM"
WHO = ("ours", "transformers")


@dataclass(frozen=True)
class Contestant:
    """A way to train: ours with a token budget, or TRL's with options of `bench.chat_peer`."""

    name: str
    learns: str
    budget: int = 0
    options: tuple[str, ...] = ()


def _peers(learns: str, **recipes: tuple[str, ...]) -> list[Contestant]:
    return [Contestant(f"TRL, {name.replace('_', ' ')}", learns, options=found) for name, found in recipes.items()]


CONTESTANTS = [
    Contestant("ours, 1,024 tokens", "lora", 1024),
    Contestant("ours, 256 tokens", "lora", 256),
    *_peers(
        "lora",
        defaults=(),
        fast_by_8=("--bf16-weights", *FAST),
        fast_by_4=("--bf16-weights", "--micro-batch", "4", *FAST),
        packed=("--bf16-weights", "--packing", "--micro-batch", "1", "--longest", "1024", "--chunked-loss"),
        lean_by_1=("--bf16-weights", "--micro-batch", "1"),
    ),
    Contestant("ours, 1,024 tokens", "all", 1024),
    *_peers(
        "all",
        defaults=(),
        fast_by_4=("--bf16-weights", "--micro-batch", "4", *FAST),
        fast_by_4_in_fp32=("--bf16", "--micro-batch", "4", *FAST),
    ),
]


@dataclass(frozen=True)
class Measured:
    """One training: rates over its whole pass, and figures of the whole process."""

    label_tokens: float  # a second
    tokens: float  # a second, prompts included
    memory: float  # MB, the largest resident set
    first_step: float  # seconds from the start of the process to the end of its first step
    step: float = 0.0  # seconds of the first step
    flops: float = 0.0  # useful ones a second


@dataclass(frozen=True)
class Found:
    """All measurements, by contestant and turn."""

    trained: dict[Contestant, list[Measured]] = field(default_factory=dict)
    products: list[float] = field(default_factory=list)  # GFLOP/s in bf16
    imports: list[float] = field(default_factory=list)
    replied: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)


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
    seconds = sum(step.seconds for step in steps)
    labels, tokens = sum(step.label_tokens for step in steps), sum(step.tokens for step in steps)
    of_token, of_label = flops_of_token(assets.model, lora=one.learns == "lora")
    return Measured(
        label_tokens=labels / seconds,
        tokens=tokens / seconds,
        memory=memory,
        first_step=records[0].envelope.mono - began,
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
    rates = (found[what] / found["seconds"] for what in ("label_tokens", "tokens"))
    return Measured(*rates, memory, found["first_step"])


def imports(scratch: Path) -> float:
    """Seconds of a process that imports what every trainer of a chat model imports from torch and transformers."""
    began = time.monotonic()
    ended([sys.executable, "-c", IMPORTS], dict(os.environ), scratch / "log")
    return time.monotonic() - began


def replied(assets: Assets, scratch: Path, who: str, precision: str) -> dict[str, Any]:
    """Replies to the validation prompts; see `bench.chat_replies`."""
    out = scratch / f"{who}-{precision}.json"
    command = [sys.executable, "-m", "bench.chat_replies", who, str(assets.model), str(assets.valid), str(out)]
    ended([*command, "--precision", precision], dict(os.environ), scratch / "log")
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def finalists(found: Found) -> list[Contestant]:
    """Ours, TRL's defaults, and the fastest and leanest of its recipes in the first turn."""
    chosen = []
    for learns in dict.fromkeys(one.learns for one in found.trained):
        mine, peers = _sides(found, learns)
        kept = {_defaults(peers), fastest(found, peers), leanest(found, peers)}
        chosen += [*mine, *(one for one in peers if one in kept)]
    return chosen


def _sides(found: Found, learns: str) -> tuple[list[Contestant], list[Contestant]]:
    all_of_them = [one for one in found.trained if one.learns == learns]
    return [one for one in all_of_them if one.budget], [one for one in all_of_them if not one.budget]


def _defaults(peers: list[Contestant]) -> Contestant:
    return next(one for one in peers if not one.options)


def fastest(found: Found, contestants: list[Contestant]) -> Contestant:
    """The contestant with the most label tokens a second."""
    return max(contestants, key=lambda one: median(found, one, "label_tokens"))


def leanest(found: Found, contestants: list[Contestant]) -> Contestant:
    """The contestant with the smallest peak of memory."""
    return min(contestants, key=lambda one: median(found, one, "memory"))


def median(found: Found, one: Contestant, what: str) -> float:
    """The median of a figure over the turns."""
    return float(statistics.median(getattr(measured, what) for measured in found.trained[one]))


def measure(assets: Assets, turns: int, chosen: set[str]) -> Found:
    """The measurements of all contestants that learn what is `chosen`, taken in turn."""
    found, running = Found(), [one for one in CONTESTANTS if one.learns in chosen]
    for turn in range(turns):
        for number, one in enumerate(running):
            with tempfile.TemporaryDirectory() as place:
                measured = (ours if one.budget else peer)(assets, Path(place), one)
            found.trained.setdefault(one, []).append(measured)
            print(f"  {LEARNS[one.learns]}: {_line(one, measured)}", file=sys.stderr, flush=True)
            if number == 0:
                found.products.append(products()[1])
        with tempfile.TemporaryDirectory() as place:
            found.imports.append(imports(Path(place)))
            for who in WHO:
                for precision in ("fp32", "bf16"):
                    scored = replied(assets, Path(place), who, precision)
                    found.replied.setdefault((who, precision), []).append(scored)
        print(f"  turn {turn + 1} of {turns}", file=sys.stderr, flush=True)
        running = finalists(found) if turn == 0 else running
    return found


def _line(one: Contestant, measured: Measured) -> str:
    rates = f"{measured.label_tokens:>8.1f} {measured.tokens:>9.1f}"
    return f"{one.name:<26} {rates} {measured.memory:>9,.0f}"


def report(found: Found) -> None:
    """Prints a table for LoRA and one for all weights, each with its ratios, and the replies."""
    print(f"matrix products in bf16: {statistics.median(found.products):.0f} GFLOP/s")
    for learns, title in LEARNS.items():
        mine, peers = _sides(found, learns)
        if mine and peers:
            print(f"\n{title:<26} {'label/s':>8} {'tokens/s':>9} {'peak MB':>9}  turns")
            for one in (*mine, *peers):
                labels, tokens, memory = (median(found, one, what) for what in ("label_tokens", "tokens", "memory"))
                middle = Measured(labels, tokens, memory, first_step=0.0)
                print(f"{_line(one, middle)}  {len(found.trained[one])}")
            for what, values in _ratios(found, mine, peers):
                _print_ratio(what, values)
    print()
    for precision in ("fp32", "bf16"):
        pairs = list(zip(*(found.replied[who, precision] for who in WHO), strict=True))
        _print_ratio(f"replies/s over model.generate by 32, {precision}", [a["rate"] / b["rate"] for a, b in pairs])
        same = sum(a == b for a, b in zip(*(scored["replies"] for scored in pairs[0]), strict=True))
        print(f"equal replies: {same} of {len(pairs[0][0]['replies'])}")


def _ratios(found: Found, mine: list[Contestant], peers: list[Contestant]) -> Iterator[tuple[str, list[float]]]:
    large, small = mine[0], mine[-1]
    peers = [one for one in peers if len(found.trained[one]) == len(found.trained[large])]
    default, quick, lean = _defaults(peers), fastest(found, peers), leanest(found, peers)
    yield "speed over TRL's defaults", _over(found, "label_tokens", large, default)
    yield f"speed over its fastest ({quick.name})", _over(found, "label_tokens", large, quick)
    yield "the same in tokens, prompts included", _over(found, "tokens", large, quick)
    yield "memory over TRL's defaults", _over(found, "memory", large, default)
    yield "memory over its fastest", _over(found, "memory", large, quick)
    yield f"memory over its leanest ({lean.name})", _over(found, "memory", small, lean)
    taken = list(zip(found.trained[large], found.products, found.imports, strict=True))
    yield "share of the bf16 matrix-product rate", [one.flops / 1e9 / rate for one, rate, _ in taken]
    yield "first step over imports and step", [one.first_step / (bare + one.step) for one, _, bare in taken]


def _over(found: Found, what: str, one: Contestant, other: Contestant) -> list[float]:
    """The ratios of a figure, turn by turn."""
    pairs = zip(found.trained[one], found.trained[other], strict=True)
    return [getattr(a, what) / getattr(b, what) for a, b in pairs]


def _print_ratio(what: str, values: list[float]) -> None:
    print(f"{what:<52} {statistics.median(values):>7.3f}  ({min(values):.3f} to {max(values):.3f})", flush=True)


def main() -> int:
    """Prints the tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, help="a folder of a chat model; the demo's without it")
    options.add_argument("--peers", type=Path, required=True, help="the interpreter of an environment with TRL")
    options.add_argument("--turns", type=int, default=5)
    options.add_argument("--rows", type=int, default=320)
    options.add_argument("--only", choices=LEARNS, help="LoRA or all weights alone")
    given = options.parse_args()
    cpu = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    print(f"{cpu[1] if cpu else platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory() as place:
        assets = Assets(
            (given.model or demo_model.obtain()).absolute(),
            Path(place) / "train.parquet",
            Path(place) / "valid.parquet",
            Path(place) / "token_store",
            given.peers.absolute(),
        )
        write_rows(assets.train, assets.valid, given.rows, VALIDATION_ROWS)
        report(measure(assets, given.turns, {given.only} if given.only else set(LEARNS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
