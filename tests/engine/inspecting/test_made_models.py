"""Models made by the inspecting process."""

import time
from pathlib import Path
from typing import Any

import pytest

from engine.contract.model_reports import ConvertedReport, FetchedReport
from engine.contract.requests import FetchRequest, GgufRequest
from engine.inspecting import answer_lines, limits, made_models
from engine.obtaining import fetching, gguf_model

REPORT = FetchedReport("me/tiny", "huggingface", "https://hub", "abc", "models/tiny", 3, 100, 40)
CONVERTED = ConvertedReport("x.gguf", "x", "Tiny", "llama", 10, "float32", 40, 5, ("</s>",), template=False)


def test_a_download_that_waits_for_the_hub_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(answer_lines, "PACE", 0.001)
    monkeypatch.setattr(answer_lines, "send", lambda **what: said.append(str(what["doing"])))

    def slow(*_: Any) -> FetchedReport:
        deadline = time.monotonic() + 30
        while not said and time.monotonic() < deadline:
            time.sleep(0.001)
        return REPORT

    monkeypatch.setattr(fetching, "fetch", slow)
    assert made_models.fetched(FetchRequest("me/tiny", str(tmp_path / "tiny"))) == REPORT
    assert said[0] == "me/tiny"


def test_a_conversion_is_allowed_the_memory_that_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def note(*given: Any) -> ConvertedReport:
        asked.extend(given)
        return CONVERTED

    monkeypatch.setattr(gguf_model, "convert", note)
    request = GgufRequest("x.gguf", "x")
    assert made_models.converted(request) == CONVERTED
    assert asked[:2] == [request, limits.allow_memory]
