"""How the process ended that read foreign files: by the file's fault, for want of memory, or by its own."""

from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from sft_tui.preflight.ask_engine import InspectorDied
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Set
from sft_tui.preflight.reader import READER, ReaderEnd
from tests.sft_tui.preflight.conftest import remedied

CONFIG = RunConfig(train_file="rows.parquet", pretrained_model="model", token_store="store")


@pytest.mark.parametrize("cause", ["crash", "memory", "failed"])
def test_the_cause_and_the_file_are_named(cause: str) -> None:
    (finding,) = READER.findings(ReaderEnd(CONFIG, InspectorDied("pretrained_model", "SIGSEGV", cause)))
    assert (finding.level, finding.code, finding.subject) == ("error", f"reader_{cause}", "pretrained_model")
    for lang in ("en", "zh"):
        assert "SIGSEGV" in finding.what(lang)
        assert "{" not in finding.what(lang) + finding.why(lang)
    assert cause == "failed" or "model" in finding.what()


def test_a_reader_that_died_at_once_was_reading_the_training_rows() -> None:
    (finding,) = READER.findings(ReaderEnd(CONFIG, InspectorDied("", "SIGKILL", "crash")))
    assert (finding.subject, finding.args["path"]) == ("train_file", "rows.parquet")


def test_a_model_that_crashes_its_reader_is_left_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    finding = Finding("error", "reader_crash", "pretrained_model", {"path": "model", "why": "SIGBUS"})
    actions = remedied(finding, pretrained_model="model").actions
    assert actions
    assert all("pretrained_model" in action.changes for action in actions if isinstance(action, Set))


def test_rows_that_crash_their_reader_are_only_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no others here to import."""
    monkeypatch.chdir(tmp_path)
    finding = Finding("error", "reader_crash", "train_file", {"path": "rows.parquet", "why": "SIGBUS"})
    assert remedied(finding, train_file="rows.parquet").command == "sft-tui data import rows.parquet --preview"


@pytest.mark.parametrize("code", ["reader_memory", "reader_failed"])
def test_what_is_not_the_files_fault_proposes_no_other_file(code: str) -> None:
    finding = Finding("error", code, "train_file", {"path": "rows.parquet", "why": "SIGKILL"})
    assert remedied(finding, train_file="rows.parquet").actions == ()
