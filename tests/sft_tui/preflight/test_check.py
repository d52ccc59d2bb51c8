"""Each broken input is found before any model is loaded, by the right finding, and no sound one is suspected."""

import contextlib
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.contract.locks import FolderLock
from engine.contract.texts import Lang
from sft_tui.cli import main
from sft_tui.preflight import report as reports
from sft_tui.preflight.check import Report
from sft_tui.preflight.fix import Action
from tests.engine.models.families import saved
from tests.sft_tui.preflight.broken_files import BROKEN, WEIGHTS, Case, Files

Checked = Callable[..., Report]
# What follows from another error: without a tokenizer nothing is tokenized, and the model is not compared with it.
ASIDE = {"memory", "machine"}


@pytest.mark.parametrize("inmate", BROKEN, ids=lambda inmate: inmate.name)
def test_each_faulty_input_is_found(files: Files, checked: Checked, inmate: Case) -> None:
    report = checked(**(inmate.broken(files) or {}))
    found = {(finding.code, finding.subject, finding.level) for finding in report.findings}
    assert (inmate.code, inmate.subject, inmate.level) in found
    errors = {code for code, _, level in found if level == "error"}
    assert errors == ({inmate.code} if inmate.level == "error" else set())
    assert report.exit_code == (2 if errors else 0)
    assert not (files.folder / "executed").exists()
    for lang in get_args(Lang):
        for finding in report.findings:
            texts = (finding.what(lang), finding.why(lang), finding.fix(lang))
            assert finding.level == "ok" or all(texts), finding
            assert finding.level == "ok" or can_be_run(finding.actions), finding
            assert "{" not in "".join(texts)
        for line in reports.lines(report.findings, lang):
            assert not any(unicodedata.category(char) == "Cc" for char in line)
    assert len(reports.to_json(report, "en")["findings"]) == len(report.findings)


def can_be_run(actions: Sequence[Action]) -> bool:
    """Whether each command of theirs exists, with options that it knows."""
    for action in actions:
        program, *words = action.argv
        if program != "sft-tui":
            assert shutil.which(program) or program in ("git", "timedatectl"), program
            continue
        group: Any = main.cli
        while isinstance(group, click.Group):
            group, words = group.commands[words[0]], words[1:]
        with contextlib.suppress(click.BadParameter):  # a file that an earlier part makes
            group.make_context(group.name, words)
    return bool(actions)


def test_there_are_many_faulty_inputs() -> None:
    assert len({inmate.name for inmate in BROKEN}) == len(BROKEN) >= 60


def written(kind: pa.DataType | None = None, **how: Any) -> Callable[[Files], dict[str, Any]]:
    """The training rows written in another way."""

    def rewrite(files: Files) -> dict[str, Any]:
        table = pq.read_table(files.path("train_file"))
        if kind is not None:
            table = pa.table({name: table.column(name).cast(kind) for name in table.column_names})
        pq.write_table(table, files.path("train_file"), **how)
        return {}

    return rewrite


def renamed(files: Files) -> dict[str, Any]:
    """Under a name with spaces and in Chinese."""
    path = files.folder / "训练 数据 (1).parquet"
    files.path("train_file").rename(path)
    return {"train_file": str(path)}


def with_more_columns(files: Files) -> dict[str, Any]:
    """With columns that nobody asked for."""
    table = pq.read_table(files.path("train_file"))
    pq.write_table(table.append_column("id", pa.array(range(len(table)))), files.path("train_file"))
    return {}


def as_safetensors(files: Files) -> dict[str, Any]:
    """A bare state dict in safetensors."""
    path = files.folder / "bare.safetensors"
    save_file(load_file(files.folder / WEIGHTS), path)
    return {"pretrained_model": str(path)}


def without_checksums(files: Files) -> dict[str, Any]:
    """A bare state dict that torch wrote without checksums, as it can."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(load_file(files.folder / WEIGHTS), files.folder / "bare.bin")
    finally:
        torch.serialization.set_crc32_options(True)
    return {"pretrained_model": str(files.folder / "bare.bin")}


def of_the_old_form(files: Files) -> dict[str, Any]:
    """A bare state dict as torch wrote it before 1.6, which torch still reads."""
    path = files.folder / "old.bin"
    torch.save(load_file(files.folder / WEIGHTS), path, _use_new_zipfile_serialization=False)
    return {"pretrained_model": str(path)}


def in_a_wrapper(files: Files) -> dict[str, Any]:
    """With what DDP and torch.compile put before the names of weights."""
    state = load_file(files.folder / WEIGHTS)
    save_file({f"module._orig_mod.{name}": tensor for name, tensor in state.items()}, files.folder / WEIGHTS)
    return {}


def with_the_models_own_tokenizer(files: Files) -> dict[str, Any]:
    """With no tokenizer set, and one in the model's folder."""
    for part in ("tokenizer.json", "tokenizer_config.json"):
        (files.folder / "tokenizer" / part).rename(files.folder / "pretrained_model" / part)
    return {"tokenizer": ""}


def of_family(name: str) -> Callable[[Files], dict[str, Any]]:
    """With a model of another family."""

    def make(files: Files) -> dict[str, Any]:
        saved(name, files.folder / "other")
        return {"pretrained_model": str(files.folder / "other"), "freeze": ""}

    return make


SOUND: dict[str, Callable[[Files], dict[str, Any]]] = {
    "as it is": lambda _files: {},
    "a bare state dict": lambda files: {"pretrained_model": str(files.folder / "t5.bin")},
    "a bare state dict in safetensors": as_safetensors,
    "a bare state dict without checksums": without_checksums,
    "a bare state dict of the old form": of_the_old_form,
    "a wrapper's names": in_a_wrapper,
    "the model's own tokenizer": with_the_models_own_tokenizer,
    "a LED": of_family("LEDForConditionalGeneration"),
    "a ProphetNet": of_family("ProphetNetForConditionalGeneration"),
    "a Marian": of_family("MarianMTModel"),
    "a new model": lambda _files: {"pretrained_model": "", "freeze": ""},
    "nothing frozen": lambda _files: {"freeze": ""},
    "a prefix frozen": lambda _files: {"freeze": "encoder.block.0,shared"},
    "adamw": lambda _files: {"optimizer": "adamw"},
    "dictionaries": written(pa.dictionary(pa.int32(), pa.string())),
    "large strings": written(pa.large_string()),
    "many row groups": written(row_group_size=3),
    "no compression": written(compression="none"),
    "zstd": written(compression="zstd"),
    "checksums": written(write_page_checksum=True),
    "a Chinese name": renamed,
    "more columns": with_more_columns,
}


RARE = ("a LED", "a ProphetNet", "a Marian")  # each needs torch in the inspecting process; left to `make test-all`


@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.slow) if one in RARE else one for one in SOUND])
def test_no_sound_input_is_suspected(files: Files, checked: Checked, name: str) -> None:
    report = checked(**SOUND[name](files))
    assert not [finding for finding in report.findings if finding.level != "ok" and finding.subject not in ASIDE]
    found = {finding.code for finding in report.findings}
    assert {"rows", "tokenizer", "model", "disk", "machine", "precision", "plan"} <= found
    assert {"memory", "memory_unknown"} & found


def test_a_folder_in_use_is_reported_with_its_holder(files: Files, checked: Checked) -> None:
    lock = FolderLock.acquire(files.folder / "out", "sft-small-7", files.folder)
    try:
        report = checked()
    finally:
        lock.abandon()
    (finding,) = [finding for finding in report.findings if finding.level == "error"]
    assert (finding.code, report.exit_code) == ("busy", 3)
    assert "sft-small-7" in finding.what()


def test_a_run_that_would_fill_the_disk_is_reported(
    files: Files, checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sft_tui.preflight.disk.free_bytes", lambda _path: 1 << 20)
    (finding,) = [finding for finding in checked().findings if finding.level == "error"]
    assert finding.code == "space_short"
    assert str(files.folder) in finding.what()


def test_errors_come_first_in_the_order_of_fixing(checked: Checked) -> None:
    missing = dict.fromkeys(("train_file", "validation_file", "tokenizer", "pretrained_model"), "nowhere")
    report = checked(**missing)
    errors = [finding.subject for finding in report.findings if finding.level == "error"]
    assert errors == list(missing)
    assert [finding.level for finding in report.findings][: len(errors)] == ["error"] * len(errors)


def test_tokens_of_the_check_are_kept_for_the_run(files: Files, checked: Checked) -> None:
    checked()
    folder = Path(files.settings["token_store"])
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2
    checked(max_seq_len=8)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == kept
