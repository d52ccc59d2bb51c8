"""A run is planned from preset and overrides, and refused at once where it would fail."""

import contextlib
import errno
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from engine.contract import events
from engine.contract.durable import read_json, write_json
from engine.contract.locks import FolderLock, is_locked
from engine.contract.messages import BusyError, InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.owner import new_id
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import EventWriter
from sft_tui.removal import discard
from sft_tui.runs import find, read_run
from sft_tui.starting import fix_of, open_run_dir, plan_resume, plan_run, start, why_nothing_to_do


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Overrides that name files which are there."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "valid", "model", "tokenizer"):
        (tmp_path / name).touch()
    return {
        "train_file": "train",
        "validation_file": "valid",
        "pretrained_model": "model",
        "tokenizer": "tokenizer",
        "output_dir": "out",
    }


def cut_run(settings: dict[str, Any], finished: bool = False) -> OutputDir:
    """Leaves what a run leaves that was cut at step 5 of 10."""
    opened = open_run_dir(Path("logs"), plan_run("sft-small", {**settings, "epochs": 7}))
    run_dir, record = opened.run_dir, opened.record
    output = OutputDir(Path("out"))
    output.checkpoint(5).mkdir(parents=True)
    owner = {"run": record.run, "id": record.id, "run_dir": str(run_dir.path), "steps_total": 10, "finished": finished}
    write_json(output.owner_file, owner)
    return output


def test_the_command_line_overrides_the_preset(settings: dict[str, Any]) -> None:
    record = plan_run("sft-small", {**settings, "epochs": 5})
    assert record.config["epochs"] == 5
    assert record.config["warmup_steps"] == 100
    assert record.overrides["epochs"] == [3, 5]


@pytest.mark.parametrize("missing", ["train_file", "validation_file", "pretrained_model", "tokenizer"])
def test_a_missing_file_is_refused_before_anything_is_written(settings: dict[str, Any], missing: str) -> None:
    with pytest.raises(InputError, match=f"absent.*--{missing}"):
        plan_run("sft-small", {**settings, missing: "absent"})
    assert not Path("logs").exists()
    assert not Path("out").exists()


def test_a_start_does_not_overwrite_an_unfinished_run(settings: dict[str, Any]) -> None:
    cut_run(settings)
    with pytest.raises(InputError, match=r"sft-small-1, cut at step 5 of 10.*sft-tui resume sft-small-1.*--fresh"):
        plan_run("sft-small", settings)
    assert plan_run("sft-small", settings, fresh=True).fresh


def test_a_finished_run_may_be_followed_by_another(settings: dict[str, Any]) -> None:
    cut_run(settings, finished=True)
    assert plan_run("sft-small", settings).config["epochs"] == 3


def test_a_resumed_run_keeps_its_settings_and_its_folder(settings: dict[str, Any]) -> None:
    cut_run(settings)
    record = plan_run("sft-small", {"output_dir": "out"}, resume=True)
    assert record.config["epochs"] == 7
    assert record.config["train_file"] == "train"
    opened = open_run_dir(Path("elsewhere"), record)
    assert (opened.run_dir.path, opened.record.run) == (Path("logs/sft-small-1"), "sft-small-1")
    assert opened.made == 0


def test_a_resumed_run_needs_no_pretrained_model(settings: dict[str, Any]) -> None:
    cut_run(settings)
    Path("model").unlink()
    assert plan_run("sft-small", {"output_dir": "out"}, resume=True).resume


def test_a_run_in_a_used_folder_is_refused(settings: dict[str, Any]) -> None:
    lock = FolderLock.acquire(Path("out"), "sft-small-9", Path("logs"))
    with pytest.raises(BusyError, match="sft-small-9"):
        plan_run("sft-small", settings)
    lock.abandon()


def test_runs_are_numbered(settings: dict[str, Any]) -> None:
    record = plan_run("sft-small", settings)
    assert [open_run_dir(Path("logs"), record).record.run for _ in range(2)] == ["sft-small-1", "sft-small-2"]
    tested = plan_run("sft-small", {**settings, "test_file": "valid"}, job="test")
    assert open_run_dir(Path("logs"), tested).record.run == "sft-small-test-1"


def test_a_refused_resume_does_not_change_what_the_next_one_takes(settings: dict[str, Any]) -> None:
    output = cut_run(settings)
    accepted = plan_run("sft-small", {"output_dir": "out"}, resume=True).config
    write_json(output.owner_file, {**read_json(output.owner_file), "config": accepted})  # as the trainer does
    open_run_dir(Path("logs"), plan_run("sft-small", {"output_dir": "out", "seed": 5}, resume=True))
    assert plan_run("sft-small", {"output_dir": "out"}, resume=True).config == accepted


# The next attempt of a run.


def cut_record(settings: dict[str, Any], finished: bool = False) -> RunRecord:
    """The record of a run that was cut, whose settings the trainer had accepted."""
    output = cut_run(settings, finished)
    record = RunDir(Path("logs/sft-small-1")).read_record()
    write_json(output.owner_file, {**read_json(output.owner_file), "config": record.config})
    return record


def test_a_resume_combines_old_settings_with_new_ones(settings: dict[str, Any]) -> None:
    record = cut_record(settings)
    again = plan_resume(record, {"save_steps": 9})
    assert (again.run, again.resume, again.fresh, again.force, again.accepted) == (
        "sft-small-1",
        True,
        False,
        False,
        [],
    )
    assert again.config == {**record.config, "save_steps": 9}
    assert again.overrides["epochs"] == [3, 7]
    assert again.overrides["save_steps"][1] == 9


def test_more_epochs_and_a_fix_may_change_settings(settings: dict[str, Any]) -> None:
    record = cut_record(settings)
    assert plan_resume(record, {"epochs": 9, "seed": 5}).accepted == ["epochs"]
    fixed = plan_resume(record, {"seed": 5}, fix={"learn_rate": 1e-5})
    assert (fixed.accepted, fixed.config["learn_rate"]) == (["learn_rate"], 1e-5)
    assert plan_resume(record, {"seed": 5}, force=True).force


def test_the_users_settings_override_the_fix(settings: dict[str, Any]) -> None:
    again = plan_resume(cut_record(settings), {"micro_batch_tokens": 50}, fix={"micro_batch_tokens": 200})
    assert again.config["micro_batch_tokens"] == 50


@pytest.mark.parametrize("missing", ["train_file", "validation_file", "tokenizer"])
def test_a_file_missing_since_is_named_before_a_resume(settings: dict[str, Any], missing: str) -> None:
    record = cut_record(settings)
    Path(settings[missing]).unlink()
    with pytest.raises(InputError, match=f"--{missing}"):
        plan_resume(record, {})
    Path("moved").touch()
    assert plan_resume(record, {missing: "moved"}).config[missing] == "moved"


def test_a_run_whose_folder_is_in_use_does_not_resume(settings: dict[str, Any]) -> None:
    record = cut_record(settings)
    lock = FolderLock.acquire(Path("out"), "sft-small-9", Path("logs"))
    with pytest.raises(BusyError, match="sft-small-9"):
        plan_resume(record, {})
    lock.release()


def test_a_resume_does_not_use_another_runs_checkpoints(settings: dict[str, Any]) -> None:
    record = cut_record(settings)
    output = OutputDir(Path("out"))
    write_json(output.owner_file, {**read_json(output.owner_file), "run": "sft-small-2", "id": new_id()})
    with pytest.raises(InputError, match=r"belongs to sft-small-2.*earlier/sft-small-1"):
        plan_resume(record, {})


def test_a_test_cannot_be_resumed(settings: dict[str, Any]) -> None:
    tested = plan_run("sft-small", {**settings, "test_file": "valid"}, job="test")
    with pytest.raises(InputError, match="only training can be resumed"):
        plan_resume(tested, {})


@pytest.mark.parametrize(("epochs", "over"), [(None, True), (7, True), (6, True), (8, False)])
def test_a_finished_run_is_over_unless_it_is_asked_for_more_epochs(
    settings: dict[str, Any], epochs: int | None, over: bool
) -> None:
    record = plan_resume(cut_record(settings, finished=True), {} if epochs is None else {"epochs": epochs})
    assert record.is_finished(record.output.owner()) == over


def test_an_interrupted_run_is_not_finished(settings: dict[str, Any]) -> None:
    record = plan_resume(cut_record(settings), {})
    assert not record.is_finished(record.output.owner())


def test_a_finished_run_can_resume_for_its_export(settings: dict[str, Any]) -> None:
    record = cut_record(settings, finished=True)
    said = why_nothing_to_do(plan_resume(record, {}))
    assert said is not None
    assert said.code == "resume_finished"
    asked = plan_resume(record, {"export_state_dict": "x.bin"})
    assert why_nothing_to_do(asked) is not None  # there is no best model
    OutputDir(Path("out")).best.mkdir()
    assert why_nothing_to_do(asked) is None
    Path("x.bin").write_text("mine")
    with pytest.raises(InputError, match=r"x\.bin exists, and no run of this output folder wrote it"):
        why_nothing_to_do(asked)


def test_a_request_to_an_earlier_attempt_does_not_carry_over(settings: dict[str, Any]) -> None:
    record = cut_record(settings)
    run_dir = RunDir(Path("logs/sft-small-1"))
    run_dir.request_stop("pause")
    run_dir.request_now()
    opened = open_run_dir(Path("logs"), plan_resume(record, {}))
    assert opened.run_dir.path.absolute() == run_dir.path.absolute()
    assert (run_dir.stop_requested(), run_dir.now_request.exists()) == ("", False)
    assert opened.record.resume_option == record.resume_option == "sft-tui resume sft-small-1"


def test_the_resume_command_names_an_unusual_logs_folder(
    settings: dict[str, Any],
) -> None:
    record = open_run_dir(Path("my logs"), plan_run("sft-small", settings)).record
    assert record.resume_option == "sft-tui resume sft-small-1 --logs 'my logs'"


def test_the_fix_is_that_of_the_newest_end(settings: dict[str, Any]) -> None:
    opened = open_run_dir(Path("logs"), plan_run("sft-small", settings))
    run_dir, record = opened.run_dir, opened.record
    fixes: list[dict[str, Any]] = [{"learn_rate": 1e-5}, {"micro_batch_tokens": 64}, {}]
    for attempt, fix in enumerate(fixes, 1):
        writer = EventWriter(run_dir.events, "supervisor", attempt)
        writer.write(events.RunEnded("out_of_memory", 1, Message("head_frozen"), apply=fix))
        writer.close()
        if fix:
            assert fix_of(read_run(run_dir)) == fix
    with pytest.raises(InputError, match=r"no automatic fix.*out_of_memory"):
        fix_of(read_run(run_dir))
    assert record.run == "sft-small-1"


@pytest.mark.parametrize(
    "fix",
    [
        {"nonsense": 1},
        {"output_dir": "/elsewhere"},
        {"token_store": "/elsewhere"},
        {"micro_batch_tokens": 64, "train_file": "/etc/passwd"},
        {"micro_batch_tokens": 1 << 20},
        {"learn_rate": 1.0},
        {"learn_rate": "low"},
        {"micro_batch_tokens": 0},
    ],
    ids=str,
)
def test_a_fix_that_no_certificate_proposes_is_refused(settings: dict[str, Any], fix: dict[str, Any]) -> None:
    run_dir = open_run_dir(Path("logs"), plan_run("sft-small", settings)).run_dir
    writer = EventWriter(run_dir.events, "supervisor", 1)
    writer.write(events.RunEnded("failed", 1, Message("head_frozen"), apply=fix))
    writer.close()
    with pytest.raises(InputError) as refused:
        fix_of(read_run(run_dir))
    assert refused.value.message.code in ("fix_foreign", "setting_kind", "setting_range")


# Which folder is the run's own.


NAMED: dict[str, str] = {
    "a folder of photographs": "{}",
    "a folder with a record that is none": '{"run": 1}',
    "the folder of another run": "another",
}


@pytest.mark.parametrize("named", NAMED)
def test_a_foreign_folder_in_an_owner_file_is_left_alone(settings: dict[str, Any], named: str) -> None:
    output, theirs = cut_run(settings), Path("theirs")
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("precious")
    other = replace(RunDir(Path("logs/sft-small-1")).read_record(), id=new_id())
    (theirs / "run.json").write_text(json.dumps(asdict(other)) if named.startswith("the") else NAMED[named])
    before = {path: path.read_bytes() for path in theirs.iterdir()}
    write_json(output.owner_file, {**read_json(output.owner_file), "run_dir": str(theirs.absolute())})
    opened = open_run_dir(Path("logs"), plan_run("sft-small", {**settings, "output_dir": "out"}, resume=True))
    assert opened.run_dir.path == Path("logs/sft-small-2")
    assert opened.made == 1
    discard(opened.run_dir, opened.made)
    assert {path: path.read_bytes() for path in theirs.iterdir()} == before
    assert Path("logs/sft-small-1/run.json").exists()


@pytest.mark.parametrize("name", ["../theirs", "..", "", "sub/../../theirs"])
def test_a_record_with_a_path_as_name_opens_nothing_there(settings: dict[str, Any], name: str) -> None:
    record = replace(plan_run("sft-small", settings), run=name, resume=True)
    for folder in ("theirs", "logs/sub"):
        Path(folder).mkdir(parents=True)
    write_json(Path("theirs/run.json"), asdict(record))
    opened = open_run_dir(Path("logs"), record)
    assert opened.run_dir.path == Path("logs/sft-small-1")
    assert json.loads(Path("theirs/run.json").read_text()) == asdict(record)


def test_a_namesake_in_another_logs_folder_is_another_run(settings: dict[str, Any]) -> None:
    record = cut_record(settings)
    RunDir(Path("logs/sft-small-1")).write_record(replace(record, id=new_id()))
    with pytest.raises(InputError, match=r"no longer in out: the folder belongs to .*logs/sft-small-1"):
        plan_resume(read_run(RunDir(Path("logs/sft-small-1"))).record, {})


# Contents from before runs had ids, or whose run's folder is gone.


def without_ids(output: OutputDir) -> RunDir:
    """The folder of the run as a version left it that knew no ids; the owner has the settings it was trained with."""
    run_dir = RunDir(Path("logs/sft-small-1"))
    record, owner = json.loads(run_dir.record.read_text()), read_json(output.owner_file)
    for values in (record, owner):
        del values["id"]
    write_json(run_dir.record, record)
    write_json(output.owner_file, {**owner, "config": record["config"] | {"save_steps": 11}})
    return run_dir


@pytest.mark.parametrize("again", ["by its preset", "by its name", "after a refusal"])
def test_a_run_without_id_resumes_with_its_own_settings(settings: dict[str, Any], again: str) -> None:
    run_dir = without_ids(cut_run(settings))
    if again == "by its preset":
        record = plan_run("sft-small", {"output_dir": "out"}, resume=True)
    else:
        record = plan_resume(run_dir.read_record(), {})
    if again == "after a refusal":  # the record has its id, and the output folder was never taken over
        open_run_dir(Path("logs"), record)
        record = plan_resume(read_run(run_dir).record, {})
    assert (record.config["epochs"], record.config["save_steps"], record.config["train_file"]) == (7, 11, "train")
    opened = open_run_dir(Path("logs"), record)
    assert (opened.run_dir.path.absolute(), opened.made) == (run_dir.path.absolute(), 0)
    assert opened.record.id
    found = read_run(run_dir).output
    assert found is not None
    assert found.path == Path("out")


def test_a_run_without_id_is_not_taken_for_a_namesake(settings: dict[str, Any]) -> None:
    run_dir = without_ids(cut_run(settings))
    shutil.copytree("logs", "other logs")
    record = plan_run("sft-small", {"output_dir": "out"}, resume=True)
    assert open_run_dir(Path("other logs"), record).run_dir.path.resolve() == run_dir.path.resolve()


@pytest.mark.parametrize("said_by", ["its owner file", "its newest checkpoint"])
def test_checkpoints_without_their_run_resume_with_their_settings(settings: dict[str, Any], said_by: str) -> None:
    output = cut_run(settings)
    made_with = RunDir(Path("logs/sft-small-1")).read_record().config | {
        "save_steps": 11, "seed": 5, "token_store": "/elsewhere", "export_state_dict": "/elsewhere/x.bin",
    }  # fmt: skip
    shutil.rmtree("logs")
    if said_by == "its owner file":
        write_json(output.owner_file, {**read_json(output.owner_file), "config": made_with})
    else:
        write_json(output.checkpoint(5) / "MANIFEST.json", {"config": made_with})
    record = plan_run("sft-small", {"output_dir": "out", "seed": 6}, resume=True)
    config = record.run_config()
    assert (config.epochs, config.save_steps, config.seed, config.train_file) == (7, 11, 6, "train")
    assert (config.token_store, config.export_state_dict, config.output_dir) == ("data/token_store", "", "out")
    assert record.overrides["epochs"] == [3, 7]
    assert open_run_dir(Path("logs"), record).record.run == "sft-small-1"


# How many processes a resume starts.


def made_by(output: OutputDir, processes: Any) -> None:
    """Has the checkpoint say how many processes made it."""
    write_json(output.checkpoint(5) / "MANIFEST.json", {"world_size": processes})


def test_a_resume_starts_as_many_processes_as_made_the_checkpoint(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(4))
    record = cut_record(settings)
    made_by(record.output, 3)
    for said in (0, 1, 4, 1024):
        untrusted = replace(record, processes=said, config={**record.config, "num_processes": said})
        write_json(record.output.owner_file, {**read_json(record.output.owner_file), "config": untrusted.config})
        assert plan_resume(untrusted, {}).processes == 3
    assert plan_resume(record, {"num_processes": 2}).processes == 2  # the trainer keeps the rows of a step
    assert plan_resume(record, {}, launched=6).processes == 6


@pytest.mark.parametrize("said_by", ["the record", "the settings", "the checkpoint"])
@pytest.mark.parametrize("processes", [12, 1024])
def test_a_checkpoint_starts_no_more_processes_than_fit(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, said_by: str, processes: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(4))
    monkeypatch.setattr("engine.contract.machine.gpus.gpu_count", lambda: 2)
    record = cut_record(settings)
    if said_by == "the checkpoint":
        made_by(record.output, processes)
    elif said_by == "the record":
        record = replace(record, processes=processes)
    else:
        changed = {**record.config, "num_processes": processes}
        write_json(record.output.owner_file, {**read_json(record.output.owner_file), "config": changed})
    with pytest.raises(InputError, match=rf"trained by {processes} processes.* 4 cores and 2 GPUs.*--num_processes"):
        plan_resume(record, {})
    assert plan_resume(record, {"num_processes": processes}).processes == processes  # a person says it


@pytest.mark.parametrize("said", [-1, 0, True, "12", 1e400, None, [12]])
def test_an_invalid_number_of_processes_is_ignored(settings: dict[str, Any], said: Any) -> None:
    record = cut_record(settings)
    made_by(record.output, said)
    assert plan_resume(replace(record, processes=1), {}).processes == 1


@pytest.fixture
def project(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose run was cut, as a trainer leaves it."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("train", "valid", "model", "tokenizer"):
        (tmp_path / name).rename(project / name)
    monkeypatch.chdir(project)
    output = cut_run(settings)
    places = {"run_dir": str(project / "logs" / "sft-small-1"), "output_dir": str(project / "out")}
    write_json(output.owner_file, {**read_json(output.owner_file), **places})
    return project


def resumed_in(project: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """The folder that a resume by its name opens in a project."""
    monkeypatch.chdir(project)
    record = RunDir(Path("logs/sft-small-1")).read_record()
    return open_run_dir(Path("logs"), plan_resume(record, {})).run_dir


@pytest.mark.parametrize("original", ["stays", "without its logs", "moved"])
def test_a_project_that_was_copied_or_moved_resumes_in_its_own_folders(
    tmp_path: Path, project: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, original: str
) -> None:
    copy = tmp_path / "copy"
    shutil.move(project, copy) if original == "moved" else shutil.copytree(project, copy)
    if original == "without its logs":
        shutil.rmtree(project / "logs")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert resumed_in(copy, monkeypatch).path.resolve() == copy / "logs" / "sft-small-1"
    assert plan_run("sft-small", settings, resume=True).config["epochs"] == 7
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def kept(run_dir: RunDir) -> dict[str, Any]:
    """The record as it is in its file."""
    found: dict[str, Any] = json.loads(run_dir.record.read_text())
    return found


@pytest.mark.parametrize("record", ["of now", "of before"])
def test_a_run_of_another_project_resumes_with_its_files(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    run_dir = RunDir(project / "logs" / "sft-small-1")
    if record == "of before":
        write_json(run_dir.record, {name: value for name, value in kept(run_dir).items() if name != "project"})
    before = kept(run_dir)["config"]
    write_json(project / "out" / "RUN.json", {**read_json(OutputDir(project / "out").owner_file), "config": before})
    place = tmp_path / "elsewhere"
    (place / "out").mkdir(parents=True)
    (place / "new rows").touch()
    monkeypatch.chdir(place)
    one = read_run(find(Path("logs"), str(run_dir.path)))
    assert one.output is not None
    assert one.output.path == project / "out"
    again = plan_resume(one.record, {"validation_file": "new rows"})
    assert again.config["output_dir"] == str(project / "out")
    assert again.config["train_file"] == str(project / "train")
    started: dict[str, Any] = {}
    monkeypatch.setattr("sft_tui.starting.processes_here", lambda: 1)
    monkeypatch.setattr(
        "sft_tui.starting.subprocess.Popen", lambda command, **how: started.update(how, run=command[-1])
    )
    monkeypatch.setattr("sft_tui.starting.FolderLock.sign", lambda *_: None)
    with contextlib.suppress(AttributeError):  # what was started has no pid
        start(run_dir.path.parent, again)
    assert (Path(started["cwd"]), started["run"]) == (project, "logs/sft-small-1")
    assert kept(run_dir)["config"] == {**before, "validation_file": str(place / "new rows")}
    assert list((place / "out").iterdir()) == []
    assert not Path("logs").exists()
    monkeypatch.chdir(project)
    assert run_dir.read_record().config["output_dir"] == "out"


def test_a_run_with_logs_elsewhere_keeps_its_working_folder(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = open_run_dir(tmp_path / "far" / "logs", plan_run("sft-small", settings)).run_dir
    assert run_dir.read_record().config["train_file"] == "train"
    monkeypatch.chdir("far")
    record = run_dir.read_record()
    assert Path(record.config["train_file"]).samefile(tmp_path / "train")
    assert plan_resume(record, {}).config == record.config


def test_a_copied_output_folder_is_not_the_originals(tmp_path: Path, project: Path) -> None:
    shutil.copytree(project / "out", tmp_path / "copy" / "out")
    assert RunDir.of(OutputDir(project / "out")) is not None
    assert RunDir.of(OutputDir(tmp_path / "copy" / "out")) is None
    shutil.rmtree(project / "out")  # then it was moved there
    assert RunDir.of(OutputDir(tmp_path / "copy" / "out")) == RunDir(project / "logs" / "sft-small-1")


def test_a_run_that_cannot_be_started_leaves_nothing(settings: dict[str, Any]) -> None:
    record = plan_run("sft-small", settings)
    Path("outputs").touch()
    with pytest.raises(InputError, match="outputs"):
        start(Path("logs"), replace(record, config={**record.config, "output_dir": "outputs"}))
    assert not Path("logs").exists()


@pytest.mark.parametrize("fault", [errno.ENOMEM, errno.EAGAIN, errno.ENOENT, errno.EMFILE])
@pytest.mark.parametrize("resumed", [False, True])
def test_a_supervisor_that_cannot_start_leaves_nothing_running(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fault: int, resumed: bool
) -> None:
    record = plan_resume(cut_record(settings), {}) if resumed else plan_run("sft-small", settings)

    def refused(*_: object, **_how: object) -> None:
        raise OSError(fault, os.strerror(fault), "/gone/python" if fault == errno.ENOENT else None)

    monkeypatch.setattr("sft_tui.starting.processes_here", lambda: 1)
    monkeypatch.setattr("sft_tui.starting.subprocess.Popen", refused)
    words = os.strerror(fault) + (": /gone/python" if fault == errno.ENOENT else "")
    with pytest.raises(InputError, match=rf"sft-small-1 could not be started \({words}\)"):
        start(Path("logs"), record)
    assert not is_locked(Path("out"))
    if not resumed:
        assert not Path("logs").exists()
        assert not Path("out").exists()
        return
    run = read_run(RunDir(Path("logs/sft-small-1")))
    assert not run.alive
    assert plan_resume(run.record, {}).config == record.config


@pytest.mark.parametrize("name", ["events.jsonl", "trainer.log", "supervisor.log"])
def test_a_resume_that_could_not_write_is_refused_first(settings: dict[str, Any], name: str) -> None:
    record = cut_record(settings)
    Path("logs/sft-small-1", name).unlink(missing_ok=True)
    Path("logs/sft-small-1", name).symlink_to("../../train")
    with pytest.raises(InputError, match=rf"{name} cannot be .*link"):
        start(Path("logs"), plan_resume(record, {}))
    assert Path("train").read_bytes() == b""
    assert not is_locked(Path("out"))
    assert Path("logs/sft-small-1/run.json").exists()
