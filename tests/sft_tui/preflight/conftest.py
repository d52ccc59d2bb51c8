"""A sound set of files for a run, fresh for each test, and the check of it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import RunConfig, override
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.models.inspection import described_by_torch
from sft_tui.preflight.ask_engine import Inspector
from sft_tui.preflight.check import Report, check
from sft_tui.preflight.declaration import CheckedRun, with_remedies
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.request import CheckRequest
from tests import forked_inspector
from tests.conftest import ROWS
from tests.sft_tui.preflight.broken_files import Files

Checked = Callable[..., Report]


@pytest.fixture(scope="session", autouse=True)
def forking() -> None:
    """The process that inspectors are forked from."""
    forked_inspector.prepare()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: dict[str, Any], tiny_t5_bin: Path) -> Files:
    """A copy of the tests' model, tokenizer and rows in a folder of their own."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    found = Files(tmp_path, {**tiny_settings, "max_seq_len": 64})
    pairs = [{"prompt": f"{one[0]}{other[0]}", "response": other[1]} for one in ROWS for other in ROWS]
    for name, rows in (("train_file", pairs[:40]), ("validation_file", pairs[40:50])):
        found.settings[name] = str(tmp_path / f"{name}.parquet")
        found.write(rows, name)
    for name in ("tokenizer", "pretrained_model"):
        shutil.copytree(tiny_settings[name], tmp_path / name)
        found.settings[name] = str(tmp_path / name)
    shutil.copy(tiny_t5_bin, tmp_path / "t5.bin")
    found.settings |= {"token_store": str(tmp_path / "store"), "output_dir": str(tmp_path / "out")}
    return found


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspectors are forked."""
    monkeypatch.setattr(Inspector, "__enter__", forked_inspector.begin)


def needs_torch(config: RunConfig) -> bool:
    """Whether the inspector of a run imports torch, which the one that is forked has hidden."""
    try:
        return described_by_torch(config)
    except InputError:
        return False


def report_on(request: CheckRequest) -> Report:
    """The report on a run, by forked inspectors where these can answer."""
    with pytest.MonkeyPatch.context() as patched:
        if not needs_torch(request.config):
            patched.setattr(Inspector, "__enter__", forked_inspector.begin)
        return check(request)


@pytest.fixture
def checked(files: Files) -> Checked:
    """The report on a run with these files; other settings, and what a request takes, by name."""

    def look(**more: Any) -> Report:
        request = {name: more.pop(name) for name in ("memory_limit", "fresh", "launch") if name in more}
        values = {**files.settings, **more}
        config, _ = override(preset("sft-small").config, values)
        return report_on(CheckRequest("sft-small", values, config, files.folder / "logs", **request))

    return look


def remedied(finding: Finding, *, pad: int | None = None, **settings: Any) -> Finding:
    """The only finding on a run with these settings, with what is proposed against it."""
    config, _ = override(preset("sft-small").config, settings)
    request = CheckRequest("sft-small", settings, config, Path("logs"))
    (found,) = with_remedies(CheckedRun(config, request.changed, [finding], pad=pad))
    return found
