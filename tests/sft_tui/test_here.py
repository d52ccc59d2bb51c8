"""What is found in a folder: files of rows, models, runs; hostile names, links, pipes, huge folders."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.glances import DataGlance, ModelGlance
from engine.contract.messages import Message
from sft_tui import here, runs
from sft_tui.found import Found
from sft_tui.here import Glances, listed, model_at, scan
from sft_tui.preflight.ask_engine import InspectorDied
from tests.sft_tui.conftest import PLAN, STARTED, step
from tests.sft_tui.screen.conftest import write_run

ROWS = '{"question": "What?", "answer": "That."}\n'
RAW = DataGlance("jsonl", 100, True, shape="question/answer")


class FakeInspector:
    """Stands for the process of the engine."""

    asked: list[str]

    def __init__(self) -> None:
        FakeInspector.asked = []

    def __enter__(self) -> "FakeInspector":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, request: object, kind: type) -> object:
        path = str(getattr(request, "path", ""))
        FakeInspector.asked.append(path)
        if "crash" in path:
            raise InspectorDied(path, "SIGSEGV", "crash")
        return RAW if kind is DataGlance else ModelGlance("m", "llama", "causal", 1, "bf16", 1, True, True)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(found: Found) -> list[str]:
    return [one.path for one in found.data]


def model(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("x")


def test_data_and_models_are_found_to_a_fixed_depth(folder: Path) -> None:
    for name in ("a.jsonl", "data/b.csv", "data/sub/c.jsonl", "data/sub/deep/d.jsonl", "other/e.jsonl", ".f.jsonl"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(ROWS)
    for name in ("small", "models/owner/m", "model_save/x/best", "deep/er/and/deeper"):
        model(folder / name)
    (folder / "m.gguf").write_text("GGUF")
    found = listed()
    assert names(found) == ["a.jsonl", "data/b.csv", "data/sub/c.jsonl"]
    assert [one.path for one in found.models] == ["m.gguf", "model_save/x/best", "models/owner/m", "small"]


def test_a_model_that_was_used_before_is_here_wherever_it_is(folder: Path) -> None:
    elsewhere = folder / "far" / "away" / "deep" / "m"
    model(elsewhere)
    assert [one.path for one in listed([str(elsewhere), "gone"]).models] == [str(elsewhere)]


def test_json_that_holds_settings_is_not_data(folder: Path) -> None:
    (folder / "package.json").write_text('{"name": "x"}')
    (folder / "rows.json").write_text(json.dumps([{"question": "a", "answer": "b"}]))
    assert names(listed()) == ["rows.json"]


def test_pipes_loops_and_broken_links_do_no_harm(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "gone.jsonl").symlink_to("nowhere")
    (folder / "data").mkdir()
    (folder / "data" / "loop").symlink_to(folder / "data")
    (folder / "linked.jsonl").symlink_to(folder / "real.txt")
    (folder / "real.txt").write_text(ROWS)
    (folder / "device.jsonl").symlink_to("/dev/zero")
    found = listed()
    assert names(found) == ["linked.jsonl"]


def test_hostile_names_are_kept_as_they_are(folder: Path) -> None:
    (folder / "a\x1b[31m\n[b]x[b].jsonl").write_text(ROWS)
    (folder / os.fsdecode(b"bad\xff.jsonl")).write_text(ROWS)
    assert len(listed().data) == 2


def test_a_huge_folder_is_bounded_and_what_is_left_out_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "MOST_ENTRIES", 60)
    for number in range(100):
        (folder / f"{number}.jsonl").write_text(ROWS)
    found = listed()
    assert len(found.data) == here.MOST_FILES
    assert found.left_out == 20


def test_an_unreadable_folder_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.jsonl").write_text(ROWS)
    (folder / "data").mkdir()
    scandir = os.scandir

    def refused(path: str) -> Any:
        if path == "data":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    assert names(listed()) == ["a.jsonl"]


def test_a_folder_that_is_a_file_is_passed_over(folder: Path) -> None:
    (folder / "data").write_text("x")
    (folder / "models").write_text("x")
    assert listed() == Found()


def test_a_model_needs_a_configuration_and_weights(folder: Path) -> None:
    model(folder / "whole")
    (folder / "half").mkdir()
    (folder / "half" / "config.json").write_text("{}")
    assert model_at("whole") is not None
    assert model_at("half") is None
    assert model_at("nowhere") is None
    assert model_at("with\0nul") is None


def test_a_scan_comes_in_pieces_and_reads_nothing_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "Glances", lambda: Glances(FakeInspector))  # type: ignore[arg-type]
    (folder / "a.jsonl").write_text(ROWS)
    (folder / "crash.jsonl").write_text(ROWS)
    model(folder / "small")
    pieces = list(scan(folder / "logs"))
    assert pieces[0].reading
    assert [one.about for one in pieces[0].data] == [None, None]
    last = pieces[-1]
    assert not last.reading
    assert last.data[0].about == RAW
    assert isinstance(last.data[1].about, Message)
    assert last.models[0].glance is not None
    FakeInspector.asked = []
    assert list(scan(folder / "logs", last))[-1] == last
    assert FakeInspector.asked == []


def test_runs_are_named_with_how_far_they_are(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = events.RunEnded("finished", 0, Message("ended_finished", {}))
    write_run(folder / "logs", "mine-1", STARTED, PLAN, *(step(number) for number in range(1, 60)), ended)
    (folder / "logs" / "broken").mkdir()
    found = list(scan(folder / "logs"))[-1]
    assert [(one.name, one.state, one.step) for one in found.runs] == [("mine-1", "finished", 59)]
    monkeypatch.setattr(runs, "read_run", lambda _: pytest.fail("read again"))
    assert list(scan(folder / "logs", found))[-1].runs == found.runs
