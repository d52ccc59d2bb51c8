"""Models that have to be downloaded or converted before they can be used."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.model_record import RECORD
from engine.contract.requests import FetchRequest, GgufRequest
from sft_tui import demo_model, model_files, obtaining
from sft_tui.candidates import Candidate
from sft_tui.obtaining import CancelledError, Wanted, must_be_obtained, obtained, progress_words


class Report:
    def __init__(self, folder: str) -> None:
        self.folder = folder


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.chdir(tmp_path)
    found: list[Any] = []

    def make(request: FetchRequest | GgufRequest, _progress: object) -> Report:
        found.append(request)
        return Report(request.folder)

    monkeypatch.setattr(model_files, "fetch", make)
    monkeypatch.setattr(model_files, "convert", make)
    monkeypatch.setattr(demo_model, "obtain", lambda _progress: Path("/kept/demo"))
    return found


def nothing(_step: str, _done: int, _total: int) -> None:
    pass


def test_a_model_on_a_hub_is_fetched_into_its_folder(asked: list[Any]) -> None:
    assert obtained(Candidate("Qwen/Qwen3-0.6B", "hub", "x"), nothing) == "models/Qwen3-0.6B"
    Path("models/Qwen3-0.6B").mkdir(parents=True)
    assert obtained(Candidate("Qwen/Qwen3-0.6B", "hub", "x"), nothing) == "models/Qwen--Qwen3-0.6B"
    assert [one.source for one in asked] == ["huggingface"] * 2


def test_a_gguf_file_is_converted_once(asked: list[Any]) -> None:
    Path("m.gguf").write_text("GGUF")
    chosen = Candidate("m.gguf", "here", "m.gguf")
    assert must_be_obtained(chosen)
    assert obtained(chosen, nothing) == "models/m"
    folder = Path("models/m")
    folder.mkdir(parents=True)
    (folder / "weights").write_text("abc")
    (folder / RECORD).write_text('{"file": "m.gguf", "files": {"weights": 3}}')
    assert obtained(chosen, nothing) == "models/m"
    assert len(asked) == 1


def test_the_demos_model_is_obtained_unless_it_is_kept(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Candidate("/kept/demo", "demo", "x")
    monkeypatch.setattr(demo_model, "is_kept", lambda: False)
    assert must_be_obtained(chosen)
    assert obtained(chosen, nothing) == "/kept/demo"
    monkeypatch.setattr(demo_model, "is_kept", lambda: True)
    assert not must_be_obtained(chosen)
    assert not asked


def test_what_is_cancelled_ends_with_its_next_news() -> None:
    shown: list[tuple[str, int, int]] = []
    wanted = Wanted(lambda *news: shown.append(news))
    wanted.progress("reading", 0, 4)
    wanted.progress("reading", 0, 0)
    wanted.cancel()
    with pytest.raises(CancelledError):
        wanted.progress("reading", 1, 4)
    assert shown == [("reading", 0, 4)]


def test_progress_is_a_step_or_a_size() -> None:
    assert progress_words("weights", 1, 4, "en") == "Step 2 of 4: converting the weights"
    assert progress_words("package", 12_000_000, 93_000_000, "en") == "SmolLM2-135M-Instruct: 12.00 MB of 93.00 MB"
    assert "model.safetensors" in progress_words("a/model.safetensors", 1, 2_000_000, "zh")
    assert obtaining.STEPS
