import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

from engine.contract import events
from engine.contract.config import override
from engine.contract.manifest import MANIFEST, HashedFile, Manifest
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.models import checksums, freezing, loading
from engine.models.registry import parts_of
from engine.training import checkpoint, optim
from engine.training.checkpoint import CheckpointWriter, newest_sound
from tests.engine.models.causal.small import model

if TYPE_CHECKING:
    from tests.engine.conftest import Runner

FILES = ["MANIFEST.json", "config.json", "generation_config.json", "optimizer.safetensors", "trained.safetensors"]
Trained = tuple[Any, torch.optim.Optimizer]


@pytest.fixture(scope="module")
def trained(tiny_settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> Trained:
    """A model whose decoder learned for one step, and its optimizer."""
    config, _ = override(preset("sft-small").config, tiny_settings)
    net = loading.load_model(config, tokenizer)
    freezing.freeze(net, "encoder,embeddings", parts_of(net))
    optimizer = optim.make_optimizer(config, freezing.trained_parameters(net).values())
    ids = torch.tensor([[5, 6, 7, 1]])
    net(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return net, optimizer


@pytest.fixture
def output(tmp_path: Path) -> OutputDir:
    return OutputDir(tmp_path / "output")


@pytest.fixture
def writer(output: OutputDir, trained: Trained) -> CheckpointWriter:
    return CheckpointWriter(output, *trained, keep=2)


@pytest.fixture
def three(output: OutputDir, writer: CheckpointWriter) -> OutputDir:
    """An output folder with the checkpoints of steps 1, 2 and 3."""
    for step in (1, 2, 3):
        writer.save(Manifest(step=step))
    return output


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_checkpoint_is_read_back_whole(output: OutputDir, writer: CheckpointWriter, trained: Trained) -> None:
    net, optimizer = trained
    saved = writer.save(Manifest(step=7, epoch=1, run="问"))
    found, skipped = newest_sound(output)
    assert found is not None
    assert (found.path, found.step, found.manifest.run, skipped) == (saved.path, 7, "问", [])
    assert saved.path == output.path / "checkpoints" / "step-00000007"
    again = loading.build_model(found.model_config(), found.weights(), found.path)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in net.state_dict().items())
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    state = optim.state_tensors(optimizer, names)
    assert state.keys() == found.optimizer_state().keys()
    assert all(torch.equal(found.optimizer_state()[name], value) for name, value in state.items())


def test_a_checkpoint_is_json_and_safetensors_and_nothing_else(three: OutputDir) -> None:
    (frozen,) = (three.checkpoints / "frozen").iterdir()
    steps = [f"step-0000000{step}/{name}" for step in (1, 2, 3) for name in FILES]
    assert everything_in(three.checkpoints) == sorted([f"frozen/{frozen.name}", *steps])
    for path in three.checkpoints.rglob("*.json"):
        assert json.loads(path.read_text())
    for path in three.checkpoints.rglob("*.safetensors"):
        assert load_file(path)


def test_the_manifest_has_size_and_hash_of_every_file(three: OutputDir) -> None:
    folder = three.checkpoint(3)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert sorted([*manifest["files"], MANIFEST]) == FILES
    for name, entry in manifest["files"].items():
        assert HashedFile(**entry) == checkpoint.describe(folder / name)
    frozen = manifest["frozen"]
    assert HashedFile(frozen["size"], frozen["sha256"]) == checkpoint.describe(three.checkpoints / frozen["file"])


def test_frozen_weights_are_stored_once(three: OutputDir, trained: Trained) -> None:
    (frozen,) = (three.checkpoints / "frozen").iterdir()
    learning = freezing.trained_parameters(trained[0])
    assert load_file(frozen).keys() == freezing.frozen_tensors(trained[0]).keys()
    for step in (1, 2, 3):
        assert load_file(three.checkpoint(step) / "trained.safetensors").keys() == learning.keys()


def test_a_resumed_run_does_not_write_the_frozen_weights_again(three: OutputDir, trained: Trained) -> None:
    found, _ = newest_sound(three)
    assert found is not None
    before = found.frozen.stat()
    CheckpointWriter(three, *trained, keep=2, frozen=found.manifest.frozen).save(Manifest(step=4))
    assert (found.frozen.stat().st_ino, found.frozen.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    newest, _ = newest_sound(three)
    assert newest is not None
    assert newest.step == 4


def damage(path: Path, how: str) -> None:
    if how == "removed":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    if how == "truncated":
        del data[-1]
    elif how == "emptied":
        data.clear()
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["removed", "truncated", "emptied", "flipped bit"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_skipped_and_named(three: OutputDir, name: str, how: str) -> None:
    damage(three.checkpoint(3) / name, how)
    found, (skipped,) = newest_sound(three)
    assert found is not None
    assert found.step == 2
    assert skipped.code == "checkpoint_skipped"
    assert skipped.args["checkpoint"] == str(three.checkpoint(3))
    assert name in str(skipped.args["why"])


def test_a_flipped_bit_of_a_manifest_is_found(output: OutputDir, writer: CheckpointWriter) -> None:
    """It says where the run was and with which settings: a wrong word there misleads the run or has it refused."""
    about = Manifest(world_size=1, config={"seed": 5, "freeze": "encoder"}, data={"train_file": "ab12"})
    for step in (1, 2):
        writer.save(replace(about, step=step))
    path = output.checkpoint(2) / MANIFEST
    data = path.read_bytes()
    overlooked = []
    for place in range(0, len(data), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        found, _ = newest_sound(output)
        if found is None or found.step != 1:
            overlooked.append(data[max(0, place - 10) : place + 10])
    assert overlooked == []


@pytest.mark.parametrize("how", ["removed", "truncated", "flipped bit"])
def test_damaged_frozen_weights_invalidate_every_checkpoint(three: OutputDir, how: str) -> None:
    (frozen,) = (three.checkpoints / "frozen").iterdir()
    damage(frozen, how)
    found, skipped = newest_sound(three)
    assert found is None
    assert [message.args["checkpoint"] for message in skipped] == [str(three.checkpoint(step)) for step in (3, 2, 1)]
    assert all("frozen" in str(message.args["why"]) for message in skipped)


def test_the_newest_of_several_sound_checkpoints_is_taken(three: OutputDir) -> None:
    damage(three.checkpoint(3) / "trained.safetensors", "flipped bit")
    damage(three.checkpoint(2) / "optimizer.safetensors", "truncated")
    found, skipped = newest_sound(three)
    assert found is not None
    assert (found.step, len(skipped)) == (1, 2)


def test_a_checkpoint_under_another_name_is_skipped(three: OutputDir) -> None:
    three.checkpoint(3).rename(three.checkpoint(9))
    found, (skipped,) = newest_sound(three)
    assert found is not None
    assert found.step == 2
    assert skipped.args["checkpoint"] == str(three.checkpoint(9))


STRAYS = [
    "lost+found",
    ".tmp-step-00000004-123",
    "step-12345678901234567890",
    "step-4",
    "step-00000004.bak",
    "step-0000000a",
    "checkpoint-99999999",
]


def test_folders_that_are_not_checkpoints_are_skipped(three: OutputDir) -> None:
    for name in STRAYS:
        (three.checkpoints / name).mkdir()
    (three.checkpoints / "99999999").touch()
    found, skipped = newest_sound(three)
    assert found is not None
    assert (found.step, skipped) == (3, [])
    assert three.checkpoint_steps() == [3, 2, 1]


def test_a_file_named_like_a_checkpoint_is_skipped(three: OutputDir) -> None:
    three.checkpoint(4).touch()
    found, skipped = newest_sound(three)
    assert found is not None
    assert (found.step, len(skipped)) == (3, 1)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "{}", '{"step": 3}', '{"step": "3", "files": {}}'])
def test_a_manifest_of_another_format_is_skipped(three: OutputDir, content: str) -> None:
    (three.checkpoint(3) / MANIFEST).write_text(content)
    found, skipped = newest_sound(three)
    assert found is not None
    assert (found.step, len(skipped)) == (2, 1)


@pytest.mark.parametrize(("key", "value"), [("files", []), ("files", None), ("files", {"x": 1}), ("frozen", [])])
def test_a_manifest_with_invalid_content_is_skipped(three: OutputDir, key: str, value: object) -> None:
    path = three.checkpoint(3) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    found, skipped = newest_sound(three)
    assert found is not None
    assert (found.step, len(skipped)) == (2, 1)


def test_an_empty_folder_has_no_checkpoint(output: OutputDir) -> None:
    assert newest_sound(output) == (None, [])


def test_pruning_keeps_the_newest_and_the_best(output: OutputDir, writer: CheckpointWriter) -> None:
    pruned = []
    for step in range(1, 7):
        writer.save(Manifest(step=step))
        pruned += writer.prune(step, best_step=2)
    assert output.checkpoint_steps() == [6, 5, 2]
    assert pruned == ["step-00000001", "step-00000003", "step-00000004"]
    assert newest_sound(output)[1] == []


def test_foreign_files_are_not_pruned(three: OutputDir, writer: CheckpointWriter) -> None:
    for name in STRAYS:
        (three.checkpoints / name).mkdir()
    writer.prune(3, best_step=-1)
    assert three.checkpoint_steps() == [3, 2]
    assert all((three.checkpoints / name).is_dir() for name in STRAYS)


def test_users_files_in_a_pruned_checkpoint_are_kept(three: OutputDir, writer: CheckpointWriter) -> None:
    for step in (1, 5):
        (three.checkpoint(step) / "mine").mkdir(parents=True)
        (three.checkpoint(step) / "mine/thesis").write_text("precious")
    (three.checkpoints / "step-00000001-kept").touch()
    writer.prune(3, best_step=-1)
    writer.save(Manifest(step=5))
    assert three.checkpoint_steps() == [5, 3, 2]
    assert newest_sound(three)[1] == []
    for kept in ("step-00000001-kept.2", "step-00000005-kept"):
        assert everything_in(three.checkpoints / kept) == ["mine/thesis"]


def test_users_files_next_to_the_best_model_stay(
    output: OutputDir, trained: Trained, tokenizer: PreTrainedTokenizerBase
) -> None:
    output.path.mkdir()
    checkpoint.publish_best(output, trained[0], tokenizer)
    own = everything_in(output.best)
    (output.best / "ggml").mkdir()
    (output.best / "ggml/model.gguf").write_text("converted")
    (output.best / "config.json").write_text("{}")
    checkpoint.publish_best(output, trained[0], tokenizer)
    assert everything_in(output.best) == sorted([*own, "ggml/model.gguf"])
    assert (output.best / "config.json").read_text() != "{}"
    assert [path.name for path in output.path.iterdir()] == ["best"]


def test_two_sound_checkpoints_remain_if_the_newest_is_damaged(three: OutputDir, trained: Trained) -> None:
    """As after a resume from the one before: the damaged one must not cause a sound one to be removed."""
    writer = CheckpointWriter(three, *trained, keep=2)
    for step in (8, 9):
        writer.save(Manifest(step=step))
    for step in (8, 9):
        damage(three.checkpoint(step) / "trained.safetensors", "flipped bit")
    for step in (4, 5):
        writer.save(Manifest(step=step))
        writer.prune(step, best_step=-1)
    assert three.checkpoint_steps() == [9, 8, 5, 4]


def refuse(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error")])
@pytest.mark.parametrize("failing", ["checkpoint.save_file", "os.fsync", "Path.rename"])
def test_a_save_that_fails_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, three: OutputDir, writer: CheckpointWriter, failing: str, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    before = everything_in(three.path)
    target = {"checkpoint": checkpoint, "os": os, "Path": Path}[failing.split(".")[0]]
    monkeypatch.setattr(target, failing.split(".")[1], fail)
    with pytest.raises(type(error)):
        writer.save(Manifest(step=4))
    monkeypatch.undo()
    assert everything_in(three.path) == before
    writer.save(Manifest(step=4))
    assert three.checkpoint_steps() == [4, 3, 2, 1]


def test_a_save_after_a_failed_first_one_succeeds(
    monkeypatch: pytest.MonkeyPatch, output: OutputDir, writer: CheckpointWriter
) -> None:
    """The frozen weights, too: they are written with the first."""
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        writer.save(Manifest(step=1))
    monkeypatch.undo()
    writer.save(Manifest(step=2))
    found, skipped = newest_sound(output)
    assert found is not None
    assert (found.step, skipped) == (2, [])


def test_a_damaged_checkpoint_is_replaced(three: OutputDir, writer: CheckpointWriter) -> None:
    damage(three.checkpoint(3) / "trained.safetensors", "flipped bit")
    writer.save(Manifest(step=3))
    found, skipped = newest_sound(three)
    assert found is not None
    assert (found.step, skipped) == (3, [])


def test_every_file_is_flushed_before_the_rename(monkeypatch: pytest.MonkeyPatch, writer: CheckpointWriter) -> None:
    happened: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(fd: int) -> None:
        happened.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    def renamed(path: Path, target: Path) -> Path:
        happened.append(f"-> {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    writer.save(Manifest(step=1))
    published = happened.index("-> step-00000001")
    assert set(FILES) <= set(happened[:published])
    assert happened[published - 2] == MANIFEST
    assert happened[published - 1].startswith(".tmp-")  # the staged folder itself
    assert happened[published + 1 :] == ["checkpoints"]


def test_leftovers_of_interrupted_saves_are_removed(three: OutputDir) -> None:
    kept = everything_in(three.path)
    for path in (three.checkpoints / ".tmp-sft-step-00000004-1" / "x", three.path / ".tmp-sft-best-1" / "x"):
        path.parent.mkdir()
        path.touch()
    (three.checkpoints / "frozen" / ".tmp-sft-frozen-1").touch()
    checkpoint.remove_leftovers(three)
    assert everything_in(three.path) == kept
    assert not (three.path / ".tmp-sft-best-1").exists()


def logits(net: Any) -> torch.Tensor:
    net.eval()
    ids = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 0]])
    with torch.no_grad():
        found: torch.Tensor = net(input_ids=ids, attention_mask=(ids != 0).long(), decoder_input_ids=ids).logits
    return found


def test_the_best_model_loads_as_any_other(
    output: OutputDir, trained: Trained, tokenizer: PreTrainedTokenizerBase
) -> None:
    output.path.mkdir()
    checkpoint.publish_best(output, trained[0], tokenizer)
    again = AutoModelForSeq2SeqLM.from_pretrained(output.best)
    assert torch.equal(logits(again), logits(trained[0]))
    assert AutoTokenizer.from_pretrained(output.best)("你好")["input_ids"] == tokenizer("你好")["input_ids"]
    assert {path.suffix for path in output.best.iterdir()} <= {".json", ".safetensors", ".sha256"}


def test_a_published_model_has_checksums(
    output: OutputDir, trained: Trained, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    output.path.mkdir()
    checkpoint.publish_best(output, trained[0], tokenizer)
    weights = output.best / "model.safetensors"
    assert checksums.verify([weights], tmp_path, lambda _done, _total: None) == "sha256"
    with weights.open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"!")
    with pytest.raises(InputError):
        checksums.verify([weights], tmp_path / "other", lambda _done, _total: None)


def test_a_better_model_replaces_the_best(
    output: OutputDir, trained: Trained, tokenizer: PreTrainedTokenizerBase, tiny_t5: Path
) -> None:
    output.path.mkdir()
    better = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5)
    checkpoint.publish_best(output, trained[0], tokenizer)
    checkpoint.publish_best(output, better, tokenizer)
    assert torch.equal(logits(AutoModelForSeq2SeqLM.from_pretrained(output.best)), logits(better))
    assert [path.name for path in output.path.iterdir()] == ["best"]


def interrupt(monkeypatch: pytest.MonkeyPatch, renames: int, error: BaseException) -> None:
    """Lets the rename after this many others raise `error`."""
    rename, done = Path.rename, []

    def interrupted(path: Path, target: Path) -> Path:
        done.append(path)
        if len(done) == renames + 1:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)


@pytest.mark.parametrize("renames", [0, 1])
def test_an_interrupted_publication_leaves_a_best_model(
    monkeypatch: pytest.MonkeyPatch,
    output: OutputDir,
    trained: Trained,
    tokenizer: PreTrainedTokenizerBase,
    renames: int,
) -> None:
    """Even where it happens between the two renames that exchange the models: a resume puts it back."""
    output.path.mkdir()
    checkpoint.publish_best(output, trained[0], tokenizer)
    interrupt(monkeypatch, renames, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        checkpoint.publish_best(output, trained[0], tokenizer)
    monkeypatch.undo()
    checkpoint.remove_leftovers(output)
    checkpoint.restore_best(output)
    assert torch.equal(logits(AutoModelForSeq2SeqLM.from_pretrained(output.best)), logits(trained[0]))
    assert [path.name for path in output.path.iterdir()] == ["best"]


@pytest.mark.parametrize("renames", [0, 1])
def test_a_failed_publication_keeps_the_previous_best_model(
    monkeypatch: pytest.MonkeyPatch,
    output: OutputDir,
    trained: Trained,
    tokenizer: PreTrainedTokenizerBase,
    renames: int,
) -> None:
    """It is a warning and the run continues, maybe to its end: nothing later restores the model."""
    output.path.mkdir()
    checkpoint.publish_best(output, trained[0], tokenizer)
    interrupt(monkeypatch, renames, OSError(5, "Input/output error"))
    with pytest.raises(OSError, match="Input/output error"):
        checkpoint.publish_best(output, trained[0], tokenizer)
    assert output.best.is_dir()
    assert torch.equal(logits(AutoModelForSeq2SeqLM.from_pretrained(output.best)), logits(trained[0]))


def test_the_space_needed_is_no_less_than_what_is_written(
    three: OutputDir, trained: Trained, tokenizer: PreTrainedTokenizerBase
) -> None:
    for step in (2, 3):
        shutil.rmtree(three.checkpoint(step))
    checkpoint.publish_best(three, trained[0], tokenizer)
    written = sum((three.path / name).stat().st_size for name in everything_in(three.path))
    assert written <= checkpoint.bytes_needed(trained[0], "adafactor") <= checkpoint.bytes_needed(trained[0], "adamw")


def test_weights_that_learn_need_the_space_of_fp32_before_they_have_it() -> None:
    needs = [checkpoint.bytes_needed(model("llama").to(kind), "adamw") for kind in (torch.bfloat16, torch.float32)]
    assert needs[0] == needs[1]


def failing_at(monkeypatch: pytest.MonkeyPatch, saves: range) -> None:
    """Lets the checkpoints with these numbers, counted from 1, fail."""
    save, count = checkpoint.CheckpointWriter._write_files, iter(range(1, 1000))

    def failing(self: CheckpointWriter, folder: Path) -> Any:
        if next(count) in saves:
            refuse()
        return save(self, folder)

    monkeypatch.setattr(checkpoint.CheckpointWriter, "_write_files", failing)


def test_training_continues_when_a_checkpoint_cannot_be_saved(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner"
) -> None:
    failing_at(monkeypatch, range(3, 5))
    run = run_here()
    assert (run.code, run.ended.reason) == (0, "finished")
    assert [event.step for event in run.all(events.Step)] == list(range(1, 11))
    warnings = [event.message for event in run.all(events.Warning)]
    assert [(warning.code, warning.args["step"]) for warning in warnings] == [("save_failed", 3), ("save_failed", 4)]
    assert "No space left" in warnings[0].what()
    assert run.output.checkpoint_steps() == [10, 9, 8, 7, 6, 5, 2, 1]


def test_training_continues_when_no_checkpoint_can_be_saved(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner"
) -> None:
    failing_at(monkeypatch, range(1, 99))
    run = run_here()
    assert (run.code, run.ended.reason) == (0, "finished")
    assert len(run.all(events.Step)) == 10
    assert run.codes(events.Warning) == ["save_failed"] * 10
    assert run.output.best.is_dir()


def test_training_continues_when_nothing_can_be_flushed(monkeypatch: pytest.MonkeyPatch, run_here: "Runner") -> None:
    """As on a disk that fills up or fails in the middle of a run."""

    def listener(record: Any) -> None:
        if isinstance(record.event, events.Step) and record.event.step == 2:
            monkeypatch.setattr(os, "fsync", refuse)

    run = run_here(listener=listener)
    assert len(run.all(events.Step)) == 10
    assert run.codes(events.Warning) == ["save_failed"] * 4 + ["publish_failed"] + ["save_failed"] * 5 + [
        "publish_failed"
    ]
    assert run.output.checkpoint_steps() == [1]
    assert "best" not in everything_in(run.output.path)
    assert run.ended.message.code == "ended_finished_unpublished"
    assert run.output.owner().finished is False


def test_training_continues_when_the_best_model_cannot_be_published(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner"
) -> None:
    monkeypatch.setattr(checkpoint, "publish_best", refuse)
    run = run_here()
    assert run.codes(events.Warning) == ["publish_failed", "publish_failed"]
    assert len(run.all(events.Step)) == 10
    assert (run.code, run.ended.message.code) == (1, "ended_finished_unpublished")
    assert run.output.owner().finished is False


def test_a_failed_publication_is_repeated_on_resume(
    monkeypatch: pytest.MonkeyPatch, run_here: "Runner", tmp_path: Path
) -> None:
    """Even after the last step: no step is done again, the evaluation is, and then the model is there."""
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "publish_best", refuse)
        run_here(folder=tmp_path)
    resumed = run_here(folder=tmp_path, resume=True)
    assert (resumed.code, resumed.ended.message.code) == (0, "ended_finished")
    assert len(resumed.all(events.Step)) == 10
    assert [event.step for event in resumed.all(events.Eval)] == [5, 10, 10]
    assert AutoModelForSeq2SeqLM.from_pretrained(resumed.output.best)
    assert resumed.output.owner().finished is True
    assert run_here(folder=tmp_path, resume=True).ended.message.code == "resume_finished"


def test_a_run_keeps_the_checkpoint_of_the_best_model(run_here: "Runner", taught_t5: Path) -> None:
    """The learning rate is so high that the first evaluation is the best."""
    run = run_here(pretrained_model=str(taught_t5), epochs=4, keep_latest_n_ckp=2, learn_rate=0.02)
    scores = [event.bleu for event in run.all(events.Eval)]
    best = [5, 10, 15, 20][scores.index(max(scores))]
    assert scores.count(max(scores)) == 1
    assert best < 19
    assert run.output.checkpoint_steps() == [20, 19, best]
    published = AutoModelForSeq2SeqLM.from_pretrained(run.output.best)
    found = checkpoint.FoundCheckpoint(run.output.checkpoint(best), checkpoint.verify(run.output.checkpoint(best)))
    again = loading.build_model(found.model_config(), found.weights(), found.path)
    assert torch.equal(logits(published), logits(again))
