"""What an inspection says of files: by itself, and as the process that the app asks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.contract.config import RunConfig, override, to_json
from engine.contract.presets import preset
from engine.contract.requests import ImportRequest, request_line
from engine.data import batching
from engine.data.batching import Lengths

ROWS = [("你好", "你好！"), ("今天天气怎么样？", "今天天气很好。"), ("谢谢", "不客气")]


@pytest.fixture
def inspected(tmp_path: Path, tiny_tokenizer: Path) -> Callable[..., dict[str, Any]]:
    """Asks the process for its facts on data files with these rows, under settings given by name."""

    def write(name: str, rows: list[tuple[str | None, str | None]]) -> str:
        table = pa.table({"prompt": [row[0] for row in rows], "response": [row[1] for row in rows]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
        return str(tmp_path / f"{name}.parquet")

    def ask(train: Any = ROWS, valid: Any = ROWS[:1], **values: Any) -> dict[str, Any]:
        paths = {"train_file": write("train", train), "validation_file": write("valid", valid)}
        store = {"tokenizer": str(tiny_tokenizer), "token_store": str(tmp_path / "store")}
        config, _ = override(preset("sft-small").config, {**paths, **store, **values})
        return answer("data", config, settings=["train_file", "validation_file"], processes=1)

    return ask


def answer(task: str, config: RunConfig, **more: Any) -> dict[str, Any]:
    """The facts that the process gives."""
    request = json.dumps({"task": task, "asker": os.getpid(), "config": to_json(config), **more})
    done = subprocess.run(
        [sys.executable, "-m", "engine.inspect"], input=request, capture_output=True, text=True, timeout=60, check=False
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    facts: dict[str, Any] = lines[-1].get("facts", lines[-1])
    return facts


def test_a_damaged_token_store_is_rebuilt_and_reported_once(
    inspected: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    sound = inspected()["train_file"]
    (damaged,) = (tmp_path / "store").glob("train-*/ids")
    damaged.write_bytes(bytes([damaged.read_bytes()[0] ^ 2]) + damaged.read_bytes()[1:])
    again = inspected()["train_file"]
    assert again["tokens"]["store"].pop("damage")["path"] == str(damaged)
    assert sound["tokens"]["store"].pop("damage") is None
    assert again == sound
    assert inspected()["train_file"]["tokens"]["store"]["damage"] is None


def test_rows_tokens_and_steps_are_counted(inspected: Callable[..., dict[str, Any]]) -> None:
    facts = inspected([*ROWS, (None, "x"), ("\x1b[2J", "y"), ROWS[0]], epochs=2, gradient_accumulation_steps=2)
    train = facts["train_file"]
    label = train["tokens"]["label"]
    assert (train["rows"], train["dropped"]) == (6, {"prompt_null": 1})
    assert train["control"] == {"rows": 1, "first": 4}
    assert train["tokens"]["repeated"] == {"rows": 1, "first": 5}
    assert label["longest"] >= label["p95"] >= label["median"] > 1
    assert sum(train["tokens"]["prompt"]["histogram"]["counts"]) == 5
    assert facts["overlap"] == {"rows": 1, "first": 0}
    assert (facts["steps"]["rows"], facts["steps"]["per_epoch"], facts["steps"]["total"]) == (5, 3, 6)


def test_cut_tokens_are_counted(inspected: Callable[..., dict[str, Any]]) -> None:
    whole, short = (inspected(**more)["train_file"]["tokens"] for more in ({}, {"max_seq_len": 3}))
    assert whole["cut_tokens"] == 0
    assert short["cut_rows"] == 3
    assert short["label_tokens"] == whole["label_tokens"]
    assert short["prompt"] == whole["prompt"]


def test_rows_are_read_without_a_tokenizer(inspected: Callable[..., dict[str, Any]]) -> None:
    facts = inspected(tokenizer="nowhere")
    assert facts["tokenizer"]["code"] == "file_missing"
    assert facts["train_file"]["rows"] == 3
    assert facts["train_file"]["tokens"] is None


def test_an_inspection_works_in_a_read_only_folder(inspected: Callable[..., dict[str, Any]]) -> None:
    assert inspected(token_store="/dev/null/store")["train_file"]["tokens"]["tokens"] > 0


def test_an_inspection_never_loads_torch(tmp_path: Path, tiny_tokenizer: Path) -> None:
    script = (
        "import sys\nfrom engine.inspect import _tokenizer\n_tokenizer(sys.argv[1])\n"
        "print([name for name in ('torch', 'accelerate') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_tokenizer)], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"


def test_an_import_does_not_hold_the_file_in_memory(tmp_path: Path) -> None:
    rows = 80_000
    texts = np.random.default_rng(0).bytes(rows * 1000).hex()
    column = [texts[place * 2000 : place * 2000 + 2000] for place in range(rows)]
    path = tmp_path / "large.parquet"
    pq.write_table(
        pa.table({"prompt": ["x"] * rows, "response": column}), path, compression="none", row_group_size=rows
    )
    assert path.stat().st_size > 150e6
    script = (
        "import re, sys\nfrom engine.contract.requests import read_task\nfrom engine.inspect import answer\n"
        "found = answer(read_task(sys.stdin.read())[1])\n"
        "print(found.rows, re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    train, valid = (str(tmp_path / name) for name in ("train.parquet", "valid.parquet"))
    request = request_line(ImportRequest((str(path),), train, valid)).decode()
    done = subprocess.run(
        [sys.executable, "-c", script], input=request, capture_output=True, text=True, timeout=120, check=True
    )
    found, peak = done.stdout.splitlines()[-1].split()
    assert int(found) == rows
    # Up to 293 MB was seen, on a busy machine, whose threads run ahead of each other; with whole columns held 439 MB.
    assert int(peak) * 1024 < 350e6


def test_a_row_is_shown_with_what_is_cut(
    inspected: Callable[..., dict[str, Any]], tmp_path: Path, tiny_tokenizer: Path
) -> None:
    inspected()
    values = {"train_file": str(tmp_path / "train.parquet"), "tokenizer": str(tiny_tokenizer), "max_seq_len": 3}
    config, _ = override(preset("sft-small").config, values)
    found = answer("row", config, setting="train_file", row=1)
    assert found["prompt"]["text"] == "今天天气怎么样？"
    assert found["prompt"]["kept"] == 3
    assert len(found["prompt"]["ids"]) == len(found["prompt"]["pieces"]) > 3
    beyond = answer("row", config, setting="train_file", row=3)
    assert beyond["error"]["code"] == "row_unknown"
    assert beyond["error"]["args"]["last"] == 2


def test_turns_that_do_not_fit_are_counted_and_shown(tmp_path: Path, tiny_tokenizer: Path) -> None:
    row = {"prompt": "系统\nQ: 你好\nA: 谢谢\nQ: 怎么样？", "response": "好", "prompt_turns": [3, 9, 15]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "train.parquet")
    values = {"train_file": str(tmp_path / "train.parquet"), "tokenizer": str(tiny_tokenizer), "max_seq_len": 12}
    config, _ = override(preset("sft-small").config, {**values, "token_store": str(tmp_path / "store")})
    facts = answer("data", config, settings=["train_file"], processes=1)["train_file"]["tokens"]
    assert (facts["turns_rows"], facts["turns_left_out"], facts["cut_rows"]) == (1, 2, 0)
    assert facts["turns_longest"] > 12 >= facts["prompt"]["longest"]
    shown = answer("row", config, setting="train_file", row=0)["prompt"]
    assert (shown["text"], shown["turns_left_out"]) == ("系统\n怎么样？", 2)
    assert shown["left_out"] == "Q: 你好\nA: 谢谢"


def every_micro_batch(lengths: Lengths, config: RunConfig, world: int) -> Iterator[tuple[int, int, int]]:
    """All micro-batches of a run as (rows, longest prompt, longest label)."""
    rows, batch = len(lengths.prompt), config.effective_batch(world)
    for epoch in range(config.epochs):
        order = batching.epoch_order(config.seed, epoch, rows)
        for step in range(batching.steps_per_epoch(rows, batch)):
            samples = batching.step_samples(order, step, batch)
            chosen = Lengths(lengths.prompt[samples], lengths.label[samples])
            for share in batching.deal(chosen, world):
                for places in batching.pack(share, chosen, config.micro_batch_tokens):
                    yield len(places), int(chosen.prompt[places].max()), int(chosen.label[places].max())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=60), st.integers(1, 2))
def test_the_largest_micro_batches_of_a_small_file_are_found(rows: list[tuple[int, int]], world: int) -> None:
    lengths = Lengths(*(np.array([row[part] for row in rows]) for part in (0, 1)))
    config = replace(preset("sft-small").config, micro_batch_tokens=90, epochs=2)
    cut = batching.Partition(config.effective_batch(world), world, config.micro_batch_tokens)
    largest = batching.largest_micro_batches(lengths, cut, config.seed, config.epochs)
    found = [batching.padded_shape(places, lengths) for places in largest]
    run = list(every_micro_batch(lengths, config, world))
    assert set(found) <= set(run)
    weights: list[Callable[[tuple[int, ...]], int]] = [
        lambda shape: shape[0] * (shape[1] + shape[2]),
        lambda shape: shape[0] * shape[2],
        lambda shape: shape[0] * shape[1] ** 2,
    ]
    for weight in weights:
        assert max(map(weight, found)) == max(map(weight, run))
