"""A family is one folder and one line: a toy that is only registered trains, resumes, is checked, and replies."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from transformers import T5Config, T5ForConditionalGeneration

from engine.contract import events
from engine.contract.config import RunConfig, override
from engine.contract.conversing import Open, Replied
from engine.contract.messages import InputError
from engine.contract.presets import preset
from engine.models import inspection
from engine.models.loading import load_mapped
from engine.models.registry import family_for
from engine.replying.opening import opened
from engine.test import score
from engine.training import trial
from sft_tui.preflight import ask_engine
from sft_tui.preflight.check import check
from sft_tui.preflight.request import CheckRequest
from tests.engine.training.test_train_resume import assert_same, cut_after

if TYPE_CHECKING:
    from tests.engine.conftest import Runner


@pytest.mark.parametrize("kind", ["toy", "tiny_chat"])
def test_a_registered_family_trains_and_resumes(
    run_here: "Runner", kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    settings = request.getfixturevalue(kind)
    whole = run_here(**settings)
    losses = [event.loss for event in whole.all(events.Step)]
    assert (whole.code, losses[-1] < losses[0]) == (0, True)
    cut_after(7, run_here, tmp_path, **settings)
    resumed = run_here(folder=tmp_path, resume=True, **settings)
    assert (resumed.code, resumed.ended.reason) == (0, "finished")
    assert_same(resumed, whole)
    assert (run_here(folder=tmp_path, work=score, job="test", **settings).ended.message.code) == "ended_tested"
    conversation, _ = opened(Open(str(resumed.output.best), max_new_tokens=5))
    *_, replied = conversation.say("你好")
    assert isinstance(replied, Replied)
    assert replied.tokens > 0


@pytest.mark.parametrize("kind", ["toy", "tiny_chat"])
def test_it_is_rehearsed(run_here: "Runner", kind: str, request: pytest.FixtureRequest) -> None:
    run = run_here(work=trial.rehearse, job="rehearse", **request.getfixturevalue(kind))
    assert run.code == 0
    assert run.all(events.Rehearsed)[0].steps_timed > 0


def t5_folder(folder: Path) -> Path:
    start: dict[str, Any] = {"decoder_start_token_id": 0}
    parsed = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=4, **start)
    T5ForConditionalGeneration(parsed).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chosen", ["seq2seq", "causal"])
def test_another_family_than_the_models_is_refused(chosen: str, tmp_path: Path) -> None:
    config = replace(RunConfig(), pretrained_model=str(t5_folder(tmp_path)), family=chosen)
    for path in (tmp_path, tmp_path / "model.safetensors", ""):
        with pytest.raises(InputError) as refused:
            inspection.describe(replace(config, pretrained_model=str(path)))
        message = refused.value.message
        assert message.code == "family_differs"
        assert f"a T5, and family says {chosen}" in message.what("en")
    with pytest.raises(InputError) as refused:
        load_mapped(config, None)  # type: ignore[arg-type]  # it is refused before
    assert refused.value.message.code == "family_differs"


@pytest.mark.parametrize("chosen", ["auto", "t5"])
def test_the_family_may_be_named(chosen: str, tmp_path: Path) -> None:
    config = replace(RunConfig(), pretrained_model=str(t5_folder(tmp_path)), family=chosen)
    assert inspection.describe(config).kind == family_for(config).name == "t5"


@pytest.mark.parametrize("model_type", ["t5", "mt5", "bart", "unheard-of", 7])
def test_rows_are_made_for_the_family_of_the_config(model_type: object, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    found = family_for(replace(RunConfig(), pretrained_model=str(tmp_path)))
    assert found.name == ("seq2seq" if model_type == "bart" else "t5")


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
