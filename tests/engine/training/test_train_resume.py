"""A run that was interrupted anywhere continues as if it never had been: bit by bit the same."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from engine.contract import events
from engine.contract.events import Record, Step
from engine.contract.rundir import RunDir
from engine.cpu import placement

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner, TwoRanks
    from tests.processes import Result

STEPS, PER_EPOCH = 10, 5
CUTS = [
    *[("adafactor", step) for step in range(1, STEPS + 1)],
    *[("adamw", step) for step in (1, 5, 8)],
    *[("all_learns", step) for step in (2, 6)],
    *[("bart", step) for step in (2, 6)],
    *[("lora", step) for step in (1, 5, 8)],
    *[("lora_bart", step) for step in (3,)],
    *[("causal", step) for step in range(1, STEPS + 1)],
    *[("causal_padded", step) for step in (4,)],
    *[("causal_lora", step) for step in (2, 7)],
]


@pytest.fixture(scope="module")
def cases(tiny_bart: Path, tiny_chat: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of the runs that are cut."""
    return {
        "adafactor": {},
        "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
        "all_learns": {"freeze": ""},
        "bart": {"pretrained_model": str(tiny_bart), "dropout_rate": 0.3},
        "lora": {"lora_rank": 3, "freeze": "", "optimizer": "adamw"},
        "lora_bart": {"pretrained_model": str(tiny_bart), "dropout_rate": 0.3, "lora_rank": 3, "freeze": ""},
        "causal": tiny_chat,
        "causal_padded": {**tiny_chat, "dropout_rate": 0.3},
        "causal_lora": {**tiny_chat, "lora_rank": 3},
    }


@pytest.fixture(scope="module")
def uncut(run_here: "Runner", cases: dict[str, dict[str, Any]]) -> Callable[[str], "Outcome"]:
    """The whole run of a case, with dropout on."""

    @cache
    def whole(case: str) -> "Outcome":
        run = run_here(**cases[case])
        assert run.code == 0
        return run

    return whole


def computed(run: "Outcome") -> dict[int, Step]:
    """The last event of each step, without what the clock says."""
    parts = ("data", "forward_backward", "communication", "optimizer")
    timeless: dict[str, Any] = {f"seconds_{part}": 0.0 for part in parts}
    return {event.step: replace(event, **timeless) for event in run.all(Step)}


def scores(run: "Outcome") -> list[events.Eval]:
    return [replace(event, seconds=0.0) for event in run.all(events.Eval)]


def files_of_last_checkpoint(run: "Outcome") -> dict[str, Any]:
    """Hashes of the trained weights, the optimizer's state and the frozen weights."""
    manifest = json.loads((run.output.checkpoint(STEPS) / "MANIFEST.json").read_text())
    weights = {name: entry["sha256"] for name, entry in manifest["files"].items() if name != "config.json"}
    return {**weights, "frozen": manifest["frozen"]["sha256"]}


def assert_same(run: "Outcome", expected: "Outcome") -> None:
    assert computed(run) == computed(expected)
    assert scores(run) == scores(expected)
    assert files_of_last_checkpoint(run) == files_of_last_checkpoint(expected)
    best, wanted = (load_file(each.output.best / "model.safetensors") for each in (run, expected))
    assert best.keys() == wanted.keys()
    assert all(torch.equal(best[name], wanted[name]) for name in wanted)


def stop_after(step: int, run_dir: RunDir) -> Callable[[Record], None]:
    """A listener that asks for a stop so that `step` is the last one done.

    It waits until training continues after the step before and its evaluation, which is stopped like a step.
    """
    seen = {"step": 0, "scored": 0}

    def listener(record: Record) -> None:
        event = record.event
        if isinstance(event, Step | events.Plan):
            seen["step"] = event.step
        elif isinstance(event, events.Eval):
            seen["scored"] = event.step
        elif isinstance(event, events.Phase) and event.name == "training":
            before = step - 1
            to_score = before > 0 and before % PER_EPOCH == 0
            if seen["step"] == before and (seen["scored"] == before or not to_score):
                run_dir.request_stop()

    return listener


def cut_after(step: int, run_here: "Runner", folder: Path, **settings: Any) -> "Outcome":
    run = run_here(folder=folder, listener=stop_after(step, RunDir(folder / "log")), **settings)
    assert (run.code, run.ended.reason) == (0, "stopped")
    assert max(computed(run)) == step == run.output.checkpoint_steps()[0]
    run.run_dir.stop_request.unlink()
    return run


@pytest.mark.parametrize(("case", "step"), CUTS)
def test_a_run_stopped_after_any_step_resumes_exactly(
    run_here: "Runner",
    cases: dict[str, dict[str, Any]],
    uncut: Callable[[str], "Outcome"],
    tmp_path: Path,
    case: str,
    step: int,
) -> None:
    cut_after(step, run_here, tmp_path, **cases[case])
    resumed = run_here(folder=tmp_path, resume=True, **cases[case])
    assert (resumed.code, resumed.ended.reason) == (0, "finished")
    assert [event.step for event in resumed.all(Step)] == list(range(1, STEPS + 1))  # none was done twice
    assert resumed.all(events.Plan)[-1].step == step
    assert "resumed" in resumed.codes(events.Notice)
    assert_same(resumed, uncut(case))


def test_a_run_as_on_a_gpu_resumes_exactly(
    run_here: "Runner", cases: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the processor: one upload a step, casts that are kept, a fused update, kept encodings of an encoder."""
    monkeypatch.setattr(placement, "on_host", lambda _: False)
    settings = {**cases["bart"], "optimizer": "adamw", "eval_rows": 2}
    whole = run_here(**settings)
    cut_after(7, run_here, tmp_path, **settings)
    resumed = run_here(folder=tmp_path, resume=True, **settings)
    assert (whole.code, resumed.code) == (0, 0)
    assert_same(resumed, whole)
    assert json.loads((resumed.output.checkpoint(STEPS) / "MANIFEST.json").read_text())["encodings"]


def test_the_resumed_runs_use_dropout(run_here: "Runner", uncut: Callable[[str], "Outcome"]) -> None:
    """Without it the tests above would say nothing of random numbers."""
    without = computed(run_here(dropout_rate=0.0))
    assert without[1].loss != computed(uncut("adafactor"))[1].loss


def test_another_seed_gives_another_run(run_here: "Runner", uncut: Callable[[str], "Outcome"]) -> None:
    other, usual = computed(run_here(seed=1)), computed(uncut("adafactor"))
    assert other[1].sample_ids != usual[1].sample_ids


def test_the_same_run_again_is_the_same(run_here: "Runner", uncut: Callable[[str], "Outcome"]) -> None:
    assert_same(run_here(), uncut("adafactor"))


def test_the_best_model_of_a_resumed_run_keeps_its_generation_settings(
    run_here: "Runner", tiny_t5: Path, tmp_path: Path
) -> None:
    """They are part of the folder that the run began with, and so of the folder it ends with."""
    shutil.copytree(tiny_t5, tmp_path / "model")
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_beams": 4, "length_penalty": 2.0}))
    settings = {"pretrained_model": str(tmp_path / "model"), "eval_rows": 2}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    cut_after(4, run_here, cut, **settings)
    runs = [run_here(folder=whole, **settings), run_here(folder=cut, resume=True, **settings)]
    kept = [json.loads((run.output.best / "generation_config.json").read_text()) for run in runs]
    assert [values.get("num_beams") for values in kept] == [4, 4]


def test_a_run_stopped_after_every_step_resumes_exactly(
    run_here: "Runner", uncut: Callable[[str], "Outcome"], tmp_path: Path
) -> None:
    for step in range(1, STEPS + 1):
        cut_after(step, run_here, tmp_path, resume=step > 1)
    resumed = run_here(folder=tmp_path, resume=True)
    assert resumed.ended.reason == "finished"
    assert_same(resumed, uncut("adafactor"))


@pytest.mark.parametrize("phase", ["evaluating", "generating"])
@pytest.mark.parametrize("step", [PER_EPOCH, STEPS])
def test_a_run_stopped_in_an_evaluation_resumes_exactly(
    run_here: "Runner", uncut: Callable[[str], "Outcome"], tmp_path: Path, phase: str, step: int
) -> None:
    reached = [0]

    def listener(record: Record) -> None:
        if isinstance(record.event, Step):
            reached[0] = record.event.step
        if reached[0] == step and isinstance(record.event, events.Phase) and record.event.name == phase:
            RunDir(tmp_path / "log").request_stop()

    run = run_here(folder=tmp_path, listener=listener)
    assert (run.code, run.ended.reason, run.ended.message.code) == (0, "stopped", "ended_stopped")
    assert (max(computed(run)), len(scores(run))) == (step, step // PER_EPOCH - 1)
    run.run_dir.stop_request.unlink()
    assert_same(run_here(folder=tmp_path, resume=True), uncut("adafactor"))


def test_a_run_that_failed_between_checkpoints_repeats_its_steps(
    run_here: "Runner", uncut: Callable[[str], "Outcome"], tmp_path: Path
) -> None:
    def listener(record: Record) -> None:
        if isinstance(record.event, Step) and record.event.step == 8:
            raise RuntimeError("the machine is gone")

    run = run_here(folder=tmp_path, listener=listener, save_steps=3)
    assert (run.code, run.ended.reason) == (1, "failed")
    assert run.output.checkpoint_steps()[0] == 6
    resumed = run_here(folder=tmp_path, resume=True)
    assert [event.step for event in resumed.all(Step)] == [*range(1, 9), *range(7, STEPS + 1)]
    assert_same(resumed, uncut("adafactor"))


def test_a_run_resumes_from_the_newest_sound_checkpoint(
    run_here: "Runner", uncut: Callable[[str], "Outcome"], tmp_path: Path
) -> None:
    run = cut_after(7, run_here, tmp_path)
    weights = run.output.checkpoint(7) / "trained.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    resumed = run_here(folder=tmp_path, resume=True)
    (warning,) = [event.message for event in resumed.all(events.Warning)]
    assert (warning.code, warning.args["checkpoint"]) == ("checkpoint_skipped", str(run.output.checkpoint(7)))
    assert resumed.all(events.Plan)[-1].step == 6
    assert_same(resumed, uncut("adafactor"))


def test_a_run_without_a_sound_checkpoint_starts_over_and_says_so(
    run_here: "Runner", uncut: Callable[[str], "Outcome"], tmp_path: Path
) -> None:
    run = cut_after(2, run_here, tmp_path)
    for step in (1, 2):
        (run.output.checkpoint(step) / "MANIFEST.json").unlink()
    resumed = run_here(folder=tmp_path, resume=True)
    assert resumed.codes(events.Warning) == ["checkpoint_skipped"] * 2
    assert "resume_nothing" in resumed.codes(events.Notice)
    assert_same(resumed, uncut("adafactor"))


def test_an_interrupted_evaluation_is_repeated(
    run_here: "Runner", uncut: Callable[[str], "Outcome"], tmp_path: Path
) -> None:
    """As by a power cut after the last checkpoint of an epoch: no event, no score, no best model."""
    shutil.copytree(uncut("adafactor").output.path, tmp_path / "output")
    for step in range(6, STEPS + 1):
        shutil.rmtree(tmp_path / "output" / "checkpoints" / f"step-{step:08d}")
    for name in ("evaluations.json", "best"):
        path = tmp_path / "output" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    owner = tmp_path / "output" / "RUN.json"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "finished": False}))
    resumed = run_here(folder=tmp_path, resume=True)
    whole = computed(uncut("adafactor"))
    assert computed(resumed) == {step: whole[step] for step in range(6, STEPS + 1)}
    assert scores(resumed) == scores(uncut("adafactor"))
    assert files_of_last_checkpoint(resumed) == files_of_last_checkpoint(uncut("adafactor"))


def test_two_ranks_stopped_resume_exactly(two_ranks: "TwoRanks", uncut_on_two: "tuple[Result, Outcome]") -> None:
    whole = computed(uncut_on_two[1])
    assert [found["stopped"] for found in two_ranks.found] == [0, 0]
    assert [found["resumed"] for found in two_ranks.found] == [0, 0]
    assert two_ranks.stopped.ended.reason == "stopped"
    assert computed(two_ranks.stopped) == {step: whole[step] for step in (1, 2, 3)}
    assert computed(two_ranks.resumed) == {step: whole[step] for step in range(4, STEPS + 1)}
    assert scores(two_ranks.resumed) == scores(uncut_on_two[1])
    assert files_of_last_checkpoint(two_ranks.resumed) == files_of_last_checkpoint(uncut_on_two[1])
