"""What is known of a run apart from its record and its stream."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import to_json
from engine.contract.durable import write_json
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui import notes, run_facts
from sft_tui.run_state import RunState
from sft_tui.runs import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs/b-1").mkdir(parents=True)
    config = {**to_json(preset("sft-small").config), "output_dir": "b", "pretrained_model": "a/best"}
    return Run(RunDir(Path("logs/b-1")), RunRecord("b-1", "sft-small", "train", config), RunState(), alive=False)


def test_the_run_that_made_the_model_is_named(run: Run) -> None:
    Path("a/best").mkdir(parents=True)
    write_json(Path("a/RUN.json"), {"run": "a-1"})
    write_json(Path("a/best/config.json"), {"model_type": "llama"})
    notes.write(run.run_dir, notes.Note("x"))
    found = run_facts.read(run)
    assert (found.began_from, found.model_type, found.note.text) == ("a-1", "llama", "x")


def test_the_kind_of_the_trained_model_comes_first(run: Run) -> None:
    Path("b/best").mkdir(parents=True)
    write_json(Path("config.json"), {"model_type": "qwen2"})
    Path("b/best/config.json").symlink_to(Path("config.json").absolute())
    found = run_facts.read(replace(run, output=OutputDir(Path("b"))))
    assert found.model_type == "qwen2"


@pytest.mark.parametrize("content", ["[]", "{", '{"model_type": 7}', '{"model_type": "' + "x" * 300 + '"}'])
def test_a_file_that_says_nothing_is_left_out(run: Run, content: str) -> None:
    Path("b/best").mkdir(parents=True)
    Path("b/best/config.json").write_text(content)
    assert run_facts.read(replace(run, output=OutputDir(Path("b")))).model_type == ""
