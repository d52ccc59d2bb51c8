"""The folder of a run's model: checkpoints, its owner, and what an earlier run left."""

import os
from pathlib import Path
from typing import Any

import pytest

from engine.contract.bounds import as_json
from engine.contract.config import RunConfig, to_json
from engine.contract.durable import read_json, write_json
from engine.contract.locks import FolderLock
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir, refuse_unfinished
from engine.contract.owner import Owner
from tests.engine.contract.conftest import ascii_start


@pytest.fixture
def output(tmp_path: Path) -> OutputDir:
    """An output folder that is not there yet, two levels down."""
    return OutputDir(tmp_path / "model_save" / "sft")


def left_behind(output: OutputDir, run: str, step: int = 7) -> list[str]:
    """Fills `output` as the run would; the files, as paths within it."""
    output.checkpoint(step).mkdir(parents=True)
    (output.checkpoint(step) / "model.safetensors").write_bytes(b"m" * 100)
    (output.checkpoints / "frozen").mkdir()
    (output.checkpoints / "frozen" / "f.safetensors").write_bytes(b"f" * 50)
    output.best.mkdir()
    (output.best / "config.json").write_text(run)
    write_json(output.evaluations, {"7": {"bleu": 1.5}})
    write_json(output.owner_file, {"run": run, "run_dir": "logs/x", "steps_total": 9, "finished": False})
    return files(output.path)


def files(folder: Path) -> list[str]:
    """The files in a folder, as paths within it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- checkpoints


def test_checkpoints_are_listed_newest_first_without_stray_names(output: OutputDir) -> None:
    stray = ["frozen", ".tmp-9-123", "step-9", "step-000000009", "step-0000000x", "Step-00000009", "step-00000009.bak"]
    for name in [*stray, "step-00000009 ", "step-００００００３１", "step-٠٠٠٠٠٠٣٢", "step-00000009\n", "中文"]:
        (output.checkpoints / name).mkdir(parents=True)
    for step in (2, 123, 41):
        output.checkpoint(step).mkdir()

    assert output.checkpoint_steps() == [123, 41, 2]
    assert output.checkpoint(123).name == "step-00000123"


def test_there_are_no_checkpoints_where_there_is_no_folder(output: OutputDir) -> None:
    assert output.checkpoint_steps() == []

    output.path.mkdir(parents=True)
    output.checkpoints.touch()

    assert output.checkpoint_steps() == []


# --- what an earlier run left


def test_an_unfinished_run_is_not_overwritten(output: OutputDir) -> None:
    left_behind(output, "sft-1")

    with pytest.raises(InputError) as refused:
        refuse_unfinished(output, resume_option="RESUME", fresh_option="START OVER")

    text = str(refused.value)
    assert all(part in text for part in (str(output.path), "sft-1", "step 7 of 9", "RESUME", "START OVER"))


def test_a_finished_run_or_one_without_checkpoint_may_be_replaced(output: OutputDir) -> None:
    def check() -> None:
        refuse_unfinished(output, resume_option="RESUME", fresh_option="START OVER")

    check()
    left_behind(output, "sft-1")
    write_json(output.owner_file, {**read_json(output.owner_file), "finished": True})
    check()
    output.owner_file.unlink()
    check()


def test_an_empty_folder_has_nothing_to_set_aside(output: OutputDir) -> None:
    assert output.set_aside() is None
    output.path.mkdir(parents=True)

    assert output.set_aside() is None
    assert os.listdir(output.path) == []


def test_setting_aside_moves_all_that_the_run_left(output: OutputDir) -> None:
    lock = FolderLock.acquire(output.path, "sft-2", Path("logs/sft-2"))
    before = left_behind(output, "sft-1")
    size = sum((output.path / name).stat().st_size for name in before if name != ".lock")

    moved = output.set_aside()

    assert moved == (output.path / "earlier" / "sft-1", size)
    assert files(moved[0]) == [name for name in before if name != ".lock"]
    assert sorted(os.listdir(output.path)) == [".lock", "earlier"]
    assert output.checkpoint_steps() == []
    assert not output.owner().known
    assert output.set_aside() is None
    lock.abandon()


def test_partial_output_of_a_run_is_set_aside_too(output: OutputDir) -> None:
    output.checkpoint(7).mkdir(parents=True)
    (output.checkpoint(7) / "model.safetensors").write_bytes(b"m" * 100)

    assert output.set_aside() == (output.path / "earlier" / "unnamed", 100)


def test_earlier_runs_are_kept_apart(output: OutputDir) -> None:
    places = []
    for number in range(4):
        left_behind(output, "sft-1", step=number)
        moved = output.set_aside()
        assert moved is not None
        places.append(moved[0])

    assert len(set(places)) == 4
    for number, place in enumerate(places):
        assert place.parent == output.path / "earlier"
        assert OutputDir(place).checkpoint_steps() == [number]


HOSTILE = [
    "..",
    ".",
    "...",
    "../../x",
    "/etc/x",
    "a/b",
    "",
    " ",
    "x" * 300,
    "长" * 100,
    "\x1b[31m",
    "\u202e",
    "a\nb",
    "-rf",
]


@pytest.mark.parametrize("run", [*HOSTILE, None, 5, ["a"], {"a": 1}], ids=ascii_start)
def test_no_run_name_leads_out_of_the_folder(run: Any, output: OutputDir, tmp_path: Path) -> None:
    places = []
    for step in (1, 2):
        before = left_behind(output, "sft-1", step)
        write_json(output.owner_file, {"run": run})
        moved = output.set_aside()
        assert moved is not None
        places.append(moved[0])
        assert files(moved[0]) == [name for name in before if not name.startswith("earlier")]

    assert places[0] != places[1]
    assert {place.resolve().parent for place in places} == {(output.path / "earlier").resolve()}
    assert os.listdir(output.path) == ["earlier"]
    assert os.listdir(tmp_path) == ["model_save"]
    assert os.listdir(tmp_path / "model_save") == ["sft"]


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"run":'])
def test_an_unreadable_owner_file_names_no_owner(content: bytes, output: OutputDir) -> None:
    left_behind(output, "sft-1")
    output.owner_file.write_bytes(content)

    assert not output.owner().known
    refuse_unfinished(output, resume_option="RESUME", fresh_option="START OVER")
    moved = output.set_aside()
    assert moved is not None
    assert moved[0].name == "unnamed"


NO_OWNERS: list[Any] = [
    {"run": 5},
    {"steps_total": "many"},
    {"steps_total": -1},
    {"steps_total": 10**400},
    {"config": {"epochs": "3"}},
    {"config": {"output_dir": "a\0b"}},
    {"config": []},
    {"finished": 1},
    {"run_dir": ["/"]},
    {"run_dir": "a\0b"},
    {"output_dir": "a\0b"},
    {"id": "../../x"},
    {"best": "config.json"},
    {"best": [{}]},
]


@pytest.mark.parametrize("change", NO_OWNERS, ids=repr)
def test_an_owner_file_with_an_impossible_value_names_no_owner(tmp_path: Path, change: dict[str, Any]) -> None:
    sound = {"run": "a-1", "run_dir": "logs/a-1", "steps_total": 9, "config": to_json(RunConfig()), "finished": False}
    output = OutputDir(tmp_path)
    write_json(output.owner_file, sound)
    assert as_json(output.owner()) == {**sound, "id": "", "output_dir": "", "best": []}

    write_json(output.owner_file, {**sound, **change})

    assert output.owner() == Owner()


@pytest.mark.parametrize("best", [["config.json"], ["config.json", "model.safetensors"]])
def test_what_a_newer_version_writes_of_an_owner_is_kept(tmp_path: Path, best: list[str]) -> None:
    newer = {"run": "a-1", "id": "0" * 32, "steps_total": 9, "adapter": {"rank": 16}, "labels": [1, "x"], "best": best}
    output = OutputDir(tmp_path)
    write_json(output.owner_file, newer)

    output.note_best(["model.safetensors", "tokenizer.json"])

    names = ["config.json", "model.safetensors", "tokenizer.json"]
    assert read_json(output.owner_file).items() >= {**newer, "best": names}.items()
