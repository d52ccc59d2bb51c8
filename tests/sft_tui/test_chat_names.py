"""What models are called in a chat, and which belong to a run."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import to_json
from engine.contract.durable import write_json
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.owner import Owner, new_id
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.scores import Evaluation, write_evaluations
from sft_tui import runs
from sft_tui.chat_names import chosen, form_of, model_name, models_of, run_of


def model(folder: Path) -> str:
    """A folder that looks like a model."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return str(folder)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run with its best model, and the model that it started from."""
    monkeypatch.chdir(tmp_path)
    model(tmp_path / "base")
    model(tmp_path / "out/best")
    output, made = OutputDir(Path("out")), RunDir(Path("logs/mine-3"))
    made.path.mkdir(parents=True)
    config = {**to_json(preset("sft-small").config), "output_dir": "out", "pretrained_model": "base"}
    record = RunRecord("mine-3", "sft-small", "train", config, id=new_id())
    made.write_record(record)
    output.write_owner(Owner("mine-3", record.id, str(made.path.absolute()), str(output.path.absolute())))
    return made


@pytest.mark.usefixtures("run")
def test_a_best_model_is_called_by_its_run_and_step() -> None:
    assert model_name("out/best", "en") == "mine-3, best"
    write_evaluations(OutputDir(Path("out")), {7: Evaluation(1, 2.0, 3.0, published=True), 9: Evaluation(2, 2.5, 2.0)})
    assert model_name("out/best", "en") == "mine-3, step 7, best"
    assert "第 7 步" in model_name("out/best", "zh")
    assert model_name("base", "en") == "base"
    assert run_of("out/best") is not None
    assert run_of("base") is None


def test_a_run_is_compared_with_the_model_that_it_started_from(run: RunDir) -> None:
    assert models_of(runs.read_run(run)) == ["base", "out/best"]
    for name in (None, "mine-3", "out"):
        assert chosen(name, None, Path("logs")) == (["base", "out/best"], "mine-3")
    write_json(Path("base/other.json"), {})
    Path("base/config.json").unlink()
    assert chosen("mine-3", None, Path("logs")) == (["out/best"], "mine-3")


@pytest.mark.usefixtures("run")
def test_a_model_alone_and_another_to_compare_with(tmp_path: Path) -> None:
    other = model(tmp_path / "other")
    assert chosen("base", None, Path("logs")) == (["base"], "")
    assert chosen("mine-3", other, Path("logs")) == ([other, "out/best"], "mine-3")
    with pytest.raises(InputError):
        chosen("missing", None, Path("logs"))


@pytest.mark.usefixtures("run")
def test_the_model_before_gets_the_prompts_of_the_one_after() -> None:
    output = OutputDir(Path("out"))
    config = {"chat_template": "chatml", "template_options": "thinking=false"}
    output.write_owner(replace(output.owner(), config=config))
    assert form_of("base", "out/best") == ("chatml", "thinking=false")
    assert form_of("out/best", "out/best") == ("", "thinking=false")
    assert form_of("base", "base") == ("", "")
