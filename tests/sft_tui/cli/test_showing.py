"""How the commands show a run that they have started, and which run they mean."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.contract.config import to_json
from engine.contract.locks import FolderLock
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui import starting
from sft_tui.cli import showing
from sft_tui.cli.showing import Presentation


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "LANG", "en")


def record_of(name: str) -> RunRecord:
    return RunRecord(name, "sft-small", "train", to_json(preset("sft-small").config))


@pytest.mark.parametrize(("resumed", "said"), [(False, "has started"), (True, "was resumed")])
def test_a_detached_run_prints_its_name_and_the_next_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], resumed: bool, said: str
) -> None:
    record = replace(record_of("sft-small-1"), resume=resumed)
    monkeypatch.setattr(starting, "why_nothing_to_do", lambda _record: None)
    monkeypatch.setattr(starting, "start", lambda _logs, given: SimpleNamespace(record=given))
    showing.launch(record, Path("logs"), Presentation(detach=True))
    out, err = capsys.readouterr()
    assert out == "sft-small-1\n"
    assert "sft-tui attach sft-small-1" in err
    assert said in err


def test_a_command_without_a_name_says_which_other_runs_are_alive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("sft-small-1", "sft-small-2"):
        run_dir = RunDir(tmp_path / name)
        run_dir.path.mkdir()
        run_dir.write_record(record_of(name))
    lock = FolderLock.acquire(tmp_path / "sft-small-1", "sft-small-1", tmp_path / "sft-small-1")
    assert showing.meant(None, tmp_path).path.name == "sft-small-2"
    lock.release()
    assert "sft-small-1" in capsys.readouterr().err
