"""A resumed run proves that it continues as the interrupted one would have: it repeats earlier losses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
import torch

from engine.contract import events
from engine.contract.events import Record, Step, decode, encode
from engine.contract.manifest import MANIFEST
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from engine.models import on_device as on_device_module
from engine.models.network import END_TO_END, PADDED, Network
from engine.process.job import Job
from engine.training import checkpoint, resume, setup
from engine.training.resume import TOLERANCE, Proof

if TYPE_CHECKING:
    from tests.engine.conftest import Outcome, Runner, TwoRanks

STEPS, CUT = 10, 7
PROOFS = {
    "resume_proved",
    "resume_repeated",
    "resume_unproved",
    "resume_disproved",
    "resume_drift",
    "resume_other_cut",
    "resume_other_layout",
}
NEAR = 1 + 0.9 * TOLERANCE["cpu"]
FAR = 1 + 1.1 * TOLERANCE["cpu"]


@pytest.fixture(scope="module")
def uncut(run_here: "Runner") -> "Outcome":
    """A whole run, with dropout on."""
    return run_here()


@pytest.fixture(scope="module")
def stopped_once(run_here: "Runner", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run stopped after the step CUT; only to be copied."""
    return ended_at(CUT, run_here, tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def failed_once(run_here: "Runner", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that saved at CUT and logged two steps more before it failed; only to be copied."""
    return ended_at(CUT + 2, run_here, tmp_path_factory.mktemp("failed"), fails=True, save_steps=CUT)


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A run that ended at its newest checkpoint."""
    return copied(stopped_once, tmp_path)


@pytest.fixture
def failed(failed_once: Path, tmp_path: Path) -> Path:
    """A run that ended two steps after its newest checkpoint."""
    return copied(failed_once, tmp_path)


def ended_at(step: int, run_here: "Runner", folder: Path, *, fails: bool = False, **settings: Any) -> Path:
    def listener(record: Record) -> None:
        if isinstance(record.event, Step) and record.event.step == (step if fails else step - 1):
            if fails:
                raise RuntimeError("the machine is gone")
            RunDir(folder / "log").request_stop()

    run = run_here(folder=folder, listener=listener, **settings)
    assert (run.ended.reason, run.output.checkpoint_steps()[0]) == ("failed" if fails else "stopped", CUT)
    run.run_dir.clear_requests()
    return folder


def copied(source: Path, folder: Path) -> Path:
    """A copy of a run with its log, as it lies in `folder`."""
    for name in ("log", "output"):
        shutil.copytree(source / name, folder / name)
    return folder


def manifest_of(folder: Path, step: int = CUT) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((OutputDir(folder / "output").checkpoint(step) / MANIFEST).read_text())
    return value


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any], step: int = CUT) -> None:
    """Makes the checkpoint one that was written with something else in its manifest."""
    manifest = manifest_of(folder, step)
    del manifest["sha256"]
    change(manifest)
    whole = {**manifest, "sha256": checkpoint._own_hash(manifest)}
    (OutputDir(folder / "output").checkpoint(step) / MANIFEST).write_text(json.dumps(whole))


def relogged(folder: Path, step: int, factor: float) -> None:
    """Makes the log one that has another loss for a step."""
    path, lines = folder / "log" / "events.jsonl", []
    for line in path.read_bytes().splitlines(keepends=True):
        record = decode(line)
        if record is not None and isinstance(record.event, Step) and record.event.step == step:
            changed = Step(**{**vars(record.event), "loss": record.event.loss * factor})
            line = encode(Record(record.envelope, changed))
        lines.append(line)
    path.write_bytes(b"".join(lines))


def messages(run: "Outcome") -> list[Message]:
    """All notices and warnings, in their order."""
    reported = [record.event for record in EventReader(run.run_dir.events).poll()]
    return [event.message for event in reported if isinstance(event, events.Notice | events.Warning)]


def said(run: "Outcome") -> dict[str, Message]:
    """What the run said of its proof, by code; each is said once at most."""
    found = [message for message in messages(run) if message.code.removesuffix("_within") in PROOFS]
    assert len({message.code for message in found}) == len(found)
    return {message.code: message for message in found}


def losses(run: "Outcome") -> dict[int, float]:
    return {event.step: event.loss for event in run.all(Step)}


# --- what a checkpoint keeps


def test_every_checkpoint_keeps_the_loss_of_the_step_after_it(uncut: "Outcome") -> None:
    wanted = losses(uncut)
    for step in range(1, STEPS):
        manifest = json.loads((uncut.output.checkpoint(step) / MANIFEST).read_text())
        assert manifest["next_loss"] == wanted[step + 1]


def test_the_checkpoint_of_a_stop_keeps_that_loss_too(stopped: Path, uncut: "Outcome") -> None:
    assert manifest_of(stopped)["next_loss"] == losses(uncut)[CUT + 1]


# --- proved


def test_a_resume_repeats_that_loss_bit_for_bit_and_says_so(run_here: "Runner", stopped: Path) -> None:
    run = run_here(folder=stopped, resume=True)
    assert (run.code, run.ended.reason) == (0, "finished")
    (message,) = said(run).values()
    assert message.code == "resume_proved"
    assert message.args["step"] == CUT + 1
    assert message.args["loss"] == f"{manifest_of(stopped)['next_loss']:.4f}"
    assert "to the last bit" in message.text()


def test_logged_steps_after_the_checkpoint_are_repeated(run_here: "Runner", failed: Path, uncut: "Outcome") -> None:
    run = run_here(folder=failed, resume=True)
    assert run.code == 0
    reported = said(run)
    assert list(reported) == ["resume_proved", "resume_repeated"]
    args = reported["resume_repeated"].args
    assert (args["first"], args["step"], args["steps"]) == (CUT + 1, CUT + 2, 2)
    assert losses(run) == losses(uncut)


def test_two_ranks_prove_their_resume(two_ranks: "TwoRanks") -> None:
    (message,) = said(two_ranks.resumed).values()
    assert message.code == "resume_proved"
    assert message.args["step"] == 4


def test_a_resume_for_more_epochs_is_proved_too(run_here: "Runner", tmp_path: Path) -> None:
    run_here(folder=tmp_path, epochs=1)
    run = run_here(folder=tmp_path, epochs=2, resume=True, accepted=["epochs"])
    assert (run.code, run.ended.reason) == (0, "finished")
    assert [event.step for event in run.all(Step)] == list(range(1, STEPS + 1))
    assert said(run)["resume_proved"].args["step"] == 6


def test_with_other_threads_a_resume_is_proved_within_rounding(run_here: "Runner", stopped: Path) -> None:
    def on_seven_threads(manifest: dict[str, Any]) -> None:
        manifest["next_loss"] *= NEAR
        manifest["versions"]["threads"] = "7"

    rewritten(stopped, on_seven_threads)
    run = run_here(folder=stopped, resume=True)
    assert (run.code, run.ended.reason) == (0, "finished")
    (message,) = said(run).values()
    assert message.code == "resume_proved_within"
    assert 0 < float(str(message.args["worst"])) < TOLERANCE["cpu"]
    assert "threads 7 -> 1" in message.text()


def test_with_another_loss_chunk_it_is_proved_within_rounding(run_here: "Runner", stopped: Path) -> None:
    run = run_here(folder=stopped, resume=True, loss_chunk_tokens=1, accepted=["loss_chunk_tokens"])
    assert run.code == 0
    assert [code.removesuffix("_within") for code in said(run)] == ["resume_proved"]


@pytest.mark.parametrize("rate", [0.0, 0.1], ids=["without dropout", "with dropout"])
def test_a_resume_with_half_the_budget_is_accepted(run_here: "Runner", tmp_path: Path, rate: float) -> None:
    """As the fix for it says; another split of a step draws other dropout, and is still the same run."""
    folder = ended_at(CUT, run_here, tmp_path, dropout_rate=rate)
    fix = {"micro_batch_tokens": 64}
    run = run_here(folder=folder, resume=True, dropout_rate=rate, accepted=list(fix), **fix)
    assert (run.code, run.ended.reason) == (0, "finished"), run.ended.message.text()
    (message,) = said(run).values()
    assert (message.code, message.args) == ("resume_other_cut", {"old": 128, "new": 64})


@pytest.mark.parametrize(("before", "now"), [(END_TO_END, PADDED), (END_TO_END, END_TO_END), (PADDED, PADDED)])
def test_a_resume_keeps_the_layout_of_rows_or_says_that_it_cannot(
    run_here: "Runner", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, now: str
) -> None:
    """A GPU that is no longer there, or another torch, may leave no choice."""
    asked: list[str] = []

    def on_device(*given: Any) -> Any:
        asked.append(given[-1])
        return own(*given)

    own = on_device_module.on_device
    monkeypatch.setattr(setup, "on_device", on_device)
    monkeypatch.setattr(Network, "layout", before)
    folder = ended_at(CUT, run_here, tmp_path)
    monkeypatch.setattr(Network, "layout", now)
    run = run_here(folder=folder, resume=True)
    assert (run.code, asked) == (0, ["", before])
    assert list(said(run)) == (["resume_proved"] if before == now else ["resume_other_layout"])


@pytest.mark.parametrize("more", [{"eval_batch_rows": 2}, {"save_steps": 3, "hang_seconds": 9.0}, {"sample_rows": 1}])
def test_settings_outside_the_step_keep_a_resume_bit_identical(
    run_here: "Runner", stopped: Path, more: dict[str, Any]
) -> None:
    assert list(said(run_here(folder=stopped, resume=True, **more))) == ["resume_proved"]


# --- not proved


def test_a_resume_without_a_loss_is_reported_as_unproved(run_here: "Runner", stopped: Path) -> None:
    """The run was interrupted at once, as an orphan is, and its log ends where the checkpoint does."""
    rewritten(stopped, lambda manifest: manifest.pop("next_loss"))
    run = run_here(folder=stopped, resume=True)
    assert run.code == 0
    (message,) = said(run).values()
    assert (message.code, message.args["step"]) == ("resume_unproved", CUT)


def test_without_a_loss_in_the_checkpoint_the_logs_is_used(run_here: "Runner", failed: Path) -> None:
    rewritten(failed, lambda manifest: manifest.pop("next_loss"))
    run = run_here(folder=failed, resume=True)
    assert list(said(run)) == ["resume_proved", "resume_repeated"]


def wrong_loss(manifest: dict[str, Any]) -> None:
    manifest["next_loss"] *= 1.001
    manifest["versions"] |= {"torch": "1.0", "engine": "0123456789ab"}


def test_a_resume_with_another_loss_is_refused(run_here: "Runner", stopped: Path) -> None:
    rewritten(stopped, wrong_loss)
    expected = manifest_of(stopped)["next_loss"]
    before = sorted((stopped / "output" / "checkpoints").rglob("*"))

    run = run_here(folder=stopped, resume=True)

    assert (run.code, run.ended.reason, run.ended.message.code) == (2, "refused", "resume_disproved")
    text = run.ended.message.text()
    assert f"Step {CUT + 1} does not repeat" in text
    assert repr(expected) in text
    assert f"torch 1.0 -> {torch.__version__}" in text
    assert "engine 0123456789ab -> " in text
    assert "--resume --force" in run.ended.message.fix()
    assert max(losses(run)) == CUT  # nothing was trained
    assert sorted((stopped / "output" / "checkpoints").rglob("*")) == before


def test_a_refused_proof_leaves_the_run_as_it_was(run_here: "Runner", uncut: "Outcome", tmp_path: Path) -> None:
    """A finished one is finished still, and the next resume takes the settings that were accepted last."""
    folder = copied(uncut.run_dir.path.parent, tmp_path)
    rewritten(folder, wrong_loss, step=STEPS)
    before = OutputDir(folder / "output").owner()
    run = run_here(folder=folder, resume=True, epochs=3, accepted=["epochs"])
    assert (run.code, run.ended.message.code) == (2, "resume_disproved")
    after = OutputDir(folder / "output").owner()
    assert after == before
    assert (after.finished, after.steps_total) == (True, STEPS)


def test_with_force_a_refused_resume_continues_with_a_warning(run_here: "Runner", stopped: Path) -> None:
    rewritten(stopped, wrong_loss)
    run = run_here(folder=stopped, resume=True, force=True)
    assert (run.code, run.ended.reason) == (0, "finished")
    (message,) = said(run).values()
    assert (message.code, message.args["step"]) == ("resume_drift", CUT + 1)
    assert "torch 1.0" in message.text()
    assert [event.message.code for event in run.all(events.Warning)] == ["resume_drift"]


def test_a_later_step_that_differs_is_only_a_warning(run_here: "Runner", failed: Path) -> None:
    relogged(failed, CUT + 2, 1.01)
    run = run_here(folder=failed, resume=True)
    assert (run.code, run.ended.reason) == (0, "finished")
    reported = said(run)
    assert list(reported) == ["resume_proved", "resume_drift"]
    assert reported["resume_drift"].args["step"] == CUT + 2


def test_a_resume_with_accepted_changes_ignores_the_log(run_here: "Runner", failed: Path) -> None:
    """With another learning rate the first step is the same still: it is computed before any update."""
    run = run_here(folder=failed, resume=True, learn_rate=5e-4, accepted=["learn_rate"])
    assert (run.code, run.ended.reason) == (0, "finished")
    assert list(said(run)) == ["resume_proved"]


# --- what may differ


def test_accepted_differences_are_reported_with_their_values(run_here: "Runner", stopped: Path) -> None:
    run = run_here(folder=stopped, resume=True, learn_rate=5e-4, accepted=["learn_rate"])
    (message,) = [e.message for e in run.all(events.Warning) if e.message.code == "resume_accepted"]
    assert message.args["differences"] == "learn_rate 0.001 -> 0.0005"
    assert run.all(events.RunStarted)[-1].config["learn_rate"] == 5e-4


@pytest.mark.parametrize(
    ("pair", "shown"),
    [(["", "a=1"], "'' -> a=1"), (["a=1", ""], "a=1 -> ''"), ([0, 8], "0 -> 8"), ([None, 0.0], "None -> 0.0")],
)
def test_an_empty_setting_is_not_shown_as_a_blank(pair: list[Any], shown: str) -> None:
    assert resume._listed({"one": pair, "seed": [1, 2]}) == f"one {shown}, seed 1 -> 2"


def test_only_accepted_settings_may_differ(run_here: "Runner", stopped: Path) -> None:
    run = run_here(folder=stopped, resume=True, learn_rate=5e-4, max_grad_norm=2.0, accepted=["learn_rate"])
    assert (run.code, run.ended.message.code) == (2, "resume_differs")
    assert run.ended.message.args["differences"] == "max_grad_norm 1.0 -> 2.0"
    assert "--resume --force" in run.ended.message.fix()


def test_force_accepts_and_reports_every_difference(run_here: "Runner", stopped: Path, tiny_data: Path) -> None:
    rows = pq.read_table(tiny_data / "train.parquet")
    pq.write_table(rows.take(list(reversed(range(len(rows))))), stopped / "reversed.parquet")
    other = {"learn_rate": 5e-4, "max_grad_norm": 2.0, "train_file": str(stopped / "reversed.parquet")}
    run = run_here(folder=stopped, resume=True, force=True, **other)
    assert run.code == 0
    (message,) = [e.message for e in run.all(events.Warning) if e.message.code == "resume_accepted"]
    for named in ("learn_rate 0.001 -> 0.0005", "max_grad_norm 1.0 -> 2.0", "content of train_file"):
        assert named in str(message.args["differences"])
    assert "resume_drift" in said(run)  # other rows have another loss


def test_nothing_is_accepted_where_nothing_differs(run_here: "Runner", stopped: Path) -> None:
    run = run_here(folder=stopped, resume=True, force=True, accepted=["epochs"])
    assert run.all(events.Warning) == []


# --- the comparison itself


@pytest.fixture
def proving(run_here: "Runner") -> Callable[..., list[Message]]:
    """Checks losses against expected ones on a device; what was said."""

    def check(expected: dict[int, float], found: dict[int, float], device: str = "cpu", **record: Any) -> list[Message]:
        def work(job: Job) -> Message:
            job.world.device = torch.device(device)
            proof = Proof(job, min(expected), dict(expected), "threads 1 -> 2")
            for step, loss in found.items():
                proof.check(step, loss)
            return Message("head_frozen")

        run = run_here(work=work, **record)
        if run.code:
            raise InputError(run.ended.message.code, **run.ended.message.args)
        return messages(run)

    return check


@pytest.mark.parametrize(("device", "factor"), [("cpu", NEAR), ("cuda", 1 + 0.9 * TOLERANCE["other"]), ("cuda", FAR)])
def test_a_loss_within_the_tolerance_of_its_device_is_the_same(
    proving: Callable[..., list[Message]], device: str, factor: float
) -> None:
    (message,) = proving({3: 2.0}, {3: 2.0 * factor}, device)
    assert message.code == "resume_proved_within"
    assert "threads 1 -> 2" in message.text()


@pytest.mark.parametrize(("device", "factor"), [("cpu", FAR), ("cpu", 2 - FAR), ("cuda", 1 + 1.1 * TOLERANCE["other"])])
def test_a_loss_beyond_the_tolerance_of_its_device_is_another(
    proving: Callable[..., list[Message]], device: str, factor: float
) -> None:
    with pytest.raises(InputError) as refused:
        proving({3: 2.0}, {3: 2.0 * factor}, device)
    assert refused.value.message.code == "resume_disproved"


@pytest.mark.parametrize("logged", [float("nan"), float("inf")])
def test_a_loss_that_was_nan_differs(proving: Callable[..., list[Message]], logged: float) -> None:
    """As that of a step which diverged then, and does not now."""
    with pytest.raises(InputError, match="does not repeat"):
        proving({3: logged}, {3: 2.0})


def test_one_loss_that_is_not_bit_identical_is_reported(proving: Callable[..., list[Message]]) -> None:
    reported = proving({3: 2.0, 4: 3.0, 5: 4.0}, {3: 2.0, 4: 3.0 * NEAR, 5: 4.0})
    assert [message.code for message in reported] == ["resume_proved", "resume_repeated_within"]
    assert (reported[1].args["first"], reported[1].args["step"], reported[1].args["steps"]) == (3, 5, 3)


def test_no_step_after_a_different_one_is_compared(proving: Callable[..., list[Message]]) -> None:
    reported = proving({3: 2.0, 4: 3.0, 5: 4.0}, {3: 2.0, 4: 3.3, 5: 4.4})
    assert [message.code for message in reported] == ["resume_proved", "resume_drift"]


def test_steps_that_were_not_logged_are_not_compared(proving: Callable[..., list[Message]]) -> None:
    assert [message.code for message in proving({3: 2.0}, {3: 2.0, 4: 9.0, 5: 9.0})] == ["resume_proved"]
