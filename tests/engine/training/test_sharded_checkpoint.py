"""A run whose model is divided among ranks: its checkpoints, its best model, and how it continues on others."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from engine.contract import events
from engine.contract.events import Step
from engine.contract.files import STAGED
from engine.contract.outputdir import OutputDir
from engine.contract.rundir import RunDir
from engine.training import checkpoint, optim, shard_files, sharded_checkpoint
from engine.training.checkpoint import FoundCheckpoint
from tests.engine.conftest import Outcome, outcome_of
from tests.engine.models.causal.small import chatty
from tests.engine.on_ranks import stop_after
from tests.engine.training.sharded import CUT, LIMIT, STEPS, launched, started
from tests.processes import kill_tree

if TYPE_CHECKING:
    from tests.engine.conftest import Runner

pytestmark = pytest.mark.slow  # each launch loads torch twice
CASES = ["all", "lora"]
BF16 = ["all_bf16", "lora_bf16"]
Cases = dict[str, dict[str, Any]]
Runs = dict[str, Outcome]


@pytest.fixture(scope="module")
def divided_cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The settings of runs of two epochs, with 16 rows a step."""
    llama = {**chatty(tmp_path_factory.mktemp("llama"), "llama"), "bleu_rows": 2, "eval_rows": 6}
    lora, bf16 = {**llama, "lora_rank": 3}, {"mixed_precision": "bf16"}
    return {"all": llama, "lora": lora, "all_bf16": {**llama, **bf16}, "lora_bf16": {**lora, **bf16}}


@pytest.fixture(scope="module")
def runs(make_run: Callable[..., RunDir], divided_cases: Cases, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs on two ranks, stopped before they were finished: that would close the process group."""
    two = {"processes": 2, "gradient_accumulation_steps": 8, "shard": "full"}
    made = {name: make_run(**two, **settings) for name, settings in divided_cases.items()}
    launched(tmp_path_factory.mktemp("shards") / "two", 2, runs={name: (run, STEPS) for name, run in made.items()})
    return {name: outcome_of(run, 0) for name, run in made.items()}


@pytest.fixture(scope="module")
def undivided(run_here: "Runner", divided_cases: Cases, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The same runs in one process."""
    found = {}
    for name in CASES:
        settings, folder = divided_cases[name], tmp_path_factory.mktemp("one")
        stop = stop_after(STEPS, RunDir(folder / "log"), 0)
        found[name] = run_here(folder=folder, listener=stop, gradient_accumulation_steps=16, **settings)
    return found


def losses(run: Outcome) -> list[float]:
    return [step.loss for step in run.all(Step)]


def weights_at(run: Outcome, step: int) -> dict[str, Tensor]:
    path = run.output.checkpoint(step)
    return FoundCheckpoint(path, checkpoint.verify(path)).weights()


def cut_copy(run: Outcome, made: RunDir) -> Outcome:
    """A run that continues from a copy of what another had after step CUT."""
    outcome = outcome_of(made, 0)
    shutil.copytree(run.output.path, outcome.output.path, ignore=shutil.ignore_patterns(".lock"))
    for step in outcome.output.checkpoint_steps():
        if step > CUT:
            shutil.rmtree(outcome.output.checkpoint(step))
    return outcome


@pytest.mark.parametrize("case", CASES)
def test_the_losses_of_a_run_are_those_of_one_process(runs: Runs, undivided: Runs, case: str) -> None:
    run, one = runs[case], undivided[case]
    assert run.ended.reason == "stopped", run.ended.message.text()
    assert losses(run) == pytest.approx(losses(one), rel=1e-5)
    ours, theirs = run.all(events.Eval), one.all(events.Eval)
    assert ours
    assert [score.loss for score in ours] == pytest.approx([score.loss for score in theirs], rel=1e-5)
    assert [score.bleu for score in ours] == [score.bleu for score in theirs]


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_is_shards_that_its_manifest_names(runs: Runs, undivided: Runs, case: str) -> None:
    found = runs[case].output.checkpoint(CUT)
    shards = sorted(path.name for path in found.glob("*.safetensors"))
    manifest = json.loads((found / "MANIFEST.json").read_text())
    assert len(shards) == 2
    assert sorted(name for name in manifest["files"] if name.endswith(".safetensors")) == shards
    whole, one = weights_at(runs[case], CUT), weights_at(undivided[case], CUT)
    assert whole.keys() == one.keys()
    assert all(torch.allclose(whole[name], one[name], rtol=1e-3, atol=1e-5) for name in one)


@pytest.mark.parametrize("case", CASES)
def test_the_best_model_is_whole_and_loads_in_transformers(runs: Runs, undivided: Runs, case: str) -> None:
    best, one = (run.output.best for run in (runs[case], undivided[case]))
    assert sorted(path.name for path in best.iterdir()) == sorted(path.name for path in one.iterdir())
    loaded, expected = (AutoModelForCausalLM.from_pretrained(folder) for folder in (best, one))
    ids = torch.arange(4, 20)[None]
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, expected(ids).logits, rtol=1e-3, atol=1e-3)
    if case == "lora":
        ours = load_file(best / "adapter" / "adapter_model.safetensors")
        assert ours.keys() == load_file(one / "adapter" / "adapter_model.safetensors").keys()


@pytest.mark.parametrize("case", CASES)
def test_in_bf16_a_run_has_nearly_the_losses_of_fp32(runs: Runs, case: str) -> None:
    """A loss of bf16 has 8 bits; the weights that learn, and the update of each step, are fp32."""
    run, precise = runs[f"{case}_bf16"], runs[case]
    assert run.ended.reason == "stopped", run.ended.message.text()
    (plan,) = run.all(events.Plan)
    assert plan.precision == "bf16"
    assert losses(run) == pytest.approx(losses(precise), rel=2**-8)
    assert losses(run) != losses(precise)
    assert [score.loss for score in run.all(events.Eval)] == pytest.approx(
        [score.loss for score in precise.all(events.Eval)], rel=2**-8
    )


def test_in_bf16_what_is_frozen_is_saved_as_it_was_loaded(runs: Runs, divided_cases: Cases) -> None:
    base = load_file(Path(divided_cases["lora_bf16"]["pretrained_model"]) / "model.safetensors")
    best = load_file(runs["lora_bf16"].output.best / "model.safetensors")
    kept = [name for name in base if "norm" in name or "embed" in name]
    assert kept
    assert all(torch.equal(best[name], base[name]) and best[name].dtype == base[name].dtype for name in kept)


@pytest.mark.parametrize("case", CASES)
def test_one_process_continues_what_two_began(
    runs: Runs, divided_cases: Cases, run_here: "Runner", tmp_path: Path, case: str
) -> None:
    folder = tmp_path / "one"
    (folder / "output").mkdir(parents=True)
    shutil.copytree(runs[case].output.path, folder / "output", dirs_exist_ok=True)
    for step in range(CUT + 1, STEPS + 1):
        shutil.rmtree(folder / "output" / "checkpoints" / f"step-{step:08d}", ignore_errors=True)
    found = run_here(folder=folder, resume=True, gradient_accumulation_steps=8, **divided_cases[case])
    assert found.code == 0, found.ended.message.text()
    assert losses(found)[: STEPS - CUT] == pytest.approx(losses(runs[case])[CUT:], rel=1e-5)
    assert "resume_proved_within" in found.codes(events.Notice)
    assert "resume_other_ranks" in found.codes(events.Notice)


def test_as_many_ranks_continue_to_the_same_bits(
    runs: Runs, divided_cases: Cases, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    two = {"processes": 2, "gradient_accumulation_steps": 8, "shard": "full", "resume": True}
    made = {name: make_run(**two, **divided_cases[name]) for name in CASES + BF16}
    found = {name: cut_copy(runs[name], made[name]) for name in CASES + BF16}
    for name, run in found.items():
        launched(tmp_path / name, 2, runs={name: (made[name], 0)})
        assert losses(run)[: STEPS - CUT] == losses(runs[name])[CUT:]
        assert "resume_proved" in run.codes(events.Notice)
        ended, expected = weights_at(run, STEPS), weights_at(runs[name], STEPS)
        assert all(torch.equal(ended[each], expected[each]) for each in expected)


def test_other_ranks_continue_up_to_rounding_and_say_so(
    runs: Runs, divided_cases: Cases, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    four = {"processes": 4, "gradient_accumulation_steps": 8, "shard": "full", "resume": True}
    made = {name: make_run(**four, **divided_cases[name]) for name in CASES}
    found = {name: cut_copy(runs[name], made[name]) for name in CASES}
    for name, run in found.items():
        launched(tmp_path / name, 4, runs={name: (made[name], 0)})
        assert losses(run)[: STEPS - CUT] == pytest.approx(losses(runs[name])[CUT:], rel=1e-5)
        assert "resume_proved_within" in run.codes(events.Notice)
        (said,) = [event.message for event in run.all(events.Notice) if event.message.code == "resume_other_ranks"]
        assert (said.args["before"], said.args["ranks"]) == (2, 4)


def test_two_ranks_divide_what_one_process_began(
    undivided: Runs, divided_cases: Cases, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    two = {"processes": 2, "gradient_accumulation_steps": 16, "shard": "full", "resume": True}
    made = {name: make_run(**two, **divided_cases[name]) for name in CASES}
    found = {name: cut_copy(undivided[name], made[name]) for name in CASES}
    for name, run in found.items():
        launched(tmp_path / name, 2, runs={name: (made[name], 0)})
        assert run.ended.reason == "finished", run.ended.message.text()
        assert losses(run)[: STEPS - CUT] == pytest.approx(losses(undivided[name])[CUT:], rel=1e-5)
        assert "resume_proved_within" in run.codes(events.Notice)
        (said,) = [event.message for event in run.all(events.Notice) if event.message.code == "resume_other_ranks"]
        assert (said.args["before"], said.args["ranks"]) == (1, 2)
        assert len(list(run.output.checkpoint(STEPS).glob("shard-*"))) == 2


def test_a_kill_inside_a_save_loses_nothing_that_was_saved(
    divided_cases: Cases, make_run: Callable[..., RunDir], tmp_path: Path
) -> None:
    made = make_run(processes=2, gradient_accumulation_steps=8, shard="full", **divided_cases["all"])
    run, saved = outcome_of(made, 0), list[int]()
    for number in range(2):
        folder = tmp_path / f"attempt-{number}"
        folder.mkdir()
        os.environ["FAULT"] = json.dumps({"slow_save": 0.05})
        ranks = [started(("-m", "tests.faults.trainer", str(made.path)), folder, rank, 2) for rank in range(2)]
        try:
            kill_inside_a_save(run.output, len(saved) + 2, ranks)
        finally:
            del os.environ["FAULT"]
            for rank in ranks:
                kill_tree(rank)
        acknowledged = [event.step for event in run.all(events.Checkpoint)]
        for step in acknowledged:
            assert weights_at(run, step)
        newest, skipped = checkpoint.newest_sound(run.output)
        assert newest is not None
        assert newest.step >= max(acknowledged)
        assert skipped == []
        saved = acknowledged
        record = made.read_record()
        made.write_record(type(record)(**{**vars(record), "resume": True}))
    launched(tmp_path / "rest", 2, runs={"rest": (made, 0)})
    assert run.ended.reason == "finished", run.ended.message.text()
    assert run.all(Step)[-1].step == STEPS + 1


def kill_inside_a_save(output: OutputDir, published: int, ranks: list[Any]) -> None:
    """Kills all ranks while a checkpoint has shards and no manifest, once that many are published."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        assert all(rank.poll() is None for rank in ranks)
        staged = [path for path in output.checkpoints.glob(f"{STAGED}*") if list(path.glob("shard-*"))]
        if staged and not (staged[0] / "MANIFEST.json").exists() and len(output.checkpoint_steps()) >= published:
            break
        time.sleep(0.002)
    else:
        pytest.fail("no save was seen in time")
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
    for rank in ranks:
        rank.wait(LIMIT)


@pytest.mark.parametrize(("fused", "place"), [(None, "cpu"), (True, "meta")])
def test_a_resumed_share_counts_updates_where_its_optimizer_reads(
    monkeypatch: pytest.MonkeyPatch, fused: bool | None, place: str
) -> None:
    """A GPU's kernel that updates everything reads them in the memory of the GPU."""
    mine = nn.Parameter(torch.empty(2, device="meta"))  # stands for a GPU
    optimizer = optim.AdamW([mine], fused=fused)
    shards: Any = SimpleNamespace(
        mine={"a": mine}, divided_like=lambda _name, local: local, world=SimpleNamespace(rank_status=None)
    )
    start: Any = SimpleNamespace(step=3, sharded=True, path=Path(), shard_files=[])
    monkeypatch.setattr(shard_files, "read_into", lambda *_: None)
    sharded_checkpoint.restore(shards, optimizer, start)
    assert optimizer.state[mine]["step"].device.type == place
