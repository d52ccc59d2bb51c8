"""A family is one folder and one line: a toy that is only registered trains, resumes, is checked, and replies."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine import reply
from engine.contract import events
from engine.contract.config import override
from engine.contract.presets import preset
from engine.test import score
from engine.training import trial
from sft_tui.preflight import ask_engine
from sft_tui.preflight.check import check
from sft_tui.preflight.request import CheckRequest
from tests.engine.training.test_train_resume import assert_same, cut_after

if TYPE_CHECKING:
    from tests.engine.conftest import Runner


def test_a_registered_family_trains_and_resumes(run_here: "Runner", toy: dict[str, Any], tmp_path: Path) -> None:
    whole = run_here(**toy)
    losses = [event.loss for event in whole.all(events.Step)]
    assert (whole.code, losses[-1] < losses[0]) == (0, True)
    cut_after(7, run_here, tmp_path, **toy)
    resumed = run_here(folder=tmp_path, resume=True, **toy)
    assert (resumed.code, resumed.ended.reason) == (0, "finished")
    assert_same(resumed, whole)
    assert (run_here(folder=tmp_path, work=score, job="test", **toy).ended.message.code) == "ended_tested"
    assert reply.replies(str(resumed.output.best), ["你好", "再见"], 5) != ["", ""]


def test_it_is_rehearsed(run_here: "Runner", toy: dict[str, Any]) -> None:
    run = run_here(work=trial.rehearse, job="rehearse", **toy)
    assert run.code == 0
    assert run.all(events.Rehearsed)[0].steps_timed > 0


REGISTERED = """
import sys
sys.path.insert(0, {root!r})
from engine.inspect import main
from engine.models import registry
from tests.engine.models.toy import Toy
registry.FAMILIES.append(Toy())
sys.exit(main())
"""


def test_it_is_checked(
    toy: dict[str, Any], tiny_settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = REGISTERED.format(root=str(Path(__file__).parents[3]))
    monkeypatch.setattr(ask_engine, "COMMAND", [sys.executable, "-P", "-c", program])
    output = {"output_dir": str(tmp_path / "out"), "token_store": str(tmp_path / "store")}
    values = {**tiny_settings, **toy, **output, "freeze": "head"}
    report = check(CheckRequest("sft-small", values, override(preset("sft-small").config, values)[0], tmp_path))
    (found,) = [finding for finding in report.findings if finding.code == "model"]
    tokens = report.data.known_tokenizer.tokens if report.data.known_tokenizer else 0
    assert (found.args["family"], found.args["trained"]) == ("toy", f"{16 * tokens:,}")
    assert {finding.code for finding in report.findings if finding.level == "error"} == set()
    assert "memory_unknown" in {finding.code for finding in report.findings}
