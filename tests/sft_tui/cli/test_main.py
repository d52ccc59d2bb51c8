"""The command line as a user meets it, in processes of its own where it trains."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from engine.contract import events
from engine.contract.config import FIELDS
from engine.contract.durable import read_json
from engine.contract.events import decode
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.presets import built_in
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader, EventWriter
from sft_tui.cli.main import cli
from tests.processes import LIMIT, SFT_TUI, end_runs, kill_tree, options, run, until
from tests.processes import Result as Ended

HEAVY = {"torch", "transformers", "accelerate", "textual", "pyarrow", "numpy", "huggingface_hub"}
OF_QUESTIONS = {"engine.contract.facts", "engine.contract.requests", "rich"}


@pytest.fixture(autouse=True)
def nothing_runs_on(tmp_path: Path) -> Iterator[None]:
    """A run outlives the command that started it: none may outlive its test."""
    yield
    end_runs(tmp_path)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_presets_are_listed_and_shown() -> None:
    listed = call("presets", "list")
    assert listed.output == call("presets").output
    assert all(name in listed.stdout for name in built_in())
    shown = call("presets", "show", "sft-small").stdout
    assert all(name in shown for name in FIELDS)
    assert "5e-05 rising over 100 steps (at most 30 % of the run) to 0.00125 (25 × learn_rate)" in shown


def test_a_preset_can_be_shown_as_json() -> None:
    values = json.loads(call("presets", "show", "pretrain", "--json").stdout)
    assert values["warmup_steps"] == 1024
    assert set(values) == set(FIELDS)


def test_every_setting_is_an_option_with_help() -> None:
    text = " ".join(call("run", "--help").output.split())
    assert all(f"--{name}" in text for name in FIELDS)


@pytest.mark.parametrize(("given", "meant"), [("--learn_rat", "--learn_rate"), ("--epoch", "--epochs")])
def test_an_unknown_option_is_refused_with_the_nearest(given: str, meant: str) -> None:
    result = call("run", "sft-small", given, "1")
    assert result.exit_code == 2
    assert meant in result.output.splitlines()[-1]


def test_an_unknown_preset_is_refused_with_the_nearest_first() -> None:
    error = call("run", "sft-smal").exception
    assert isinstance(error, InputError)
    assert "Known presets: sft-small," in error.message.fix()


def test_hyphens_and_underscores_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for spelt in ("--train_file", "--train-file"):
        error = call("run", "sft-small", spelt, "absent.parquet").exception
        assert isinstance(error, InputError)
        assert "absent.parquet" in error.message.what()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--epochs", "0"], "epochs = 0: it must be ≥ 1."),
        (["--learn_rate", "nan"], "learn_rate = nan"),
        (["--mixed_precision", "fp16"], "activations overflow"),
        (["--keep_latest_n_ckp", "1"], "keep_latest_n_ckp = 1: it must be ≥ 2."),
        (["--resume", "--fresh"], "--resume resumes a run"),
    ],
)
def test_wrong_use_ends_in_a_sentence_and_exit_code_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run(*SFT_TUI, "run", "sft-small", "--no-ui", *arguments, folder=tmp_path)
    assert (result.code, result.out) == (2, "")
    assert said in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "logs").exists()


def test_the_commands_speak_chinese(tmp_path: Path) -> None:
    result = run(*SFT_TUI, "run", "sft-small", folder=tmp_path, env={"LC_ALL": "zh_CN.UTF-8"})
    assert result.code == 2
    assert "错误：找不到训练文件 data/sft_train_small_train.parquet。" in result.err


def loading(folder: Path, *arguments: str) -> tuple[Ended, set[str]]:
    """A command, and what it has loaded when it ends: heavy packages, and what only questions to the engine need."""
    program = (
        "import atexit, sys; from sft_tui.cli.main import main; sys.argv = ['sft-tui', *sys.argv[1:]]; "
        "atexit.register(lambda: open('modules', 'w').write(' '.join(sys.modules))); main()"
    )
    ended = run(sys.executable, "-c", program, *arguments, folder=folder)
    return ended, (HEAVY | OF_QUESTIONS) & set((folder / "modules").read_text().split())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["presets", "show", "sft"], ["runs"]])
def test_help_loads_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    assert loading(tmp_path, *arguments)[1] == set()


def one_epoch(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**settings, "epochs": 1, "save_steps": 2, "sample_rows": 1, **more}


@dataclass(frozen=True)
class Finished:
    """A run of one epoch that was followed to its end; its folder is only to be looked at."""

    folder: Path
    said: Ended
    loaded: set[str]


@pytest.fixture(scope="module")
def finished(tiny_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("finished")
    said, loaded = loading(folder, "run", "sft-small", "--no-ui", *options(one_epoch(tiny_settings)))
    yield Finished(folder, said, loaded)
    end_runs(folder)


def test_following_a_run_loads_nothing_heavy(finished: Finished) -> None:
    assert finished.loaded <= OF_QUESTIONS
    assert (finished.folder / "model_save/sft_small/best/model.safetensors").is_file()


def test_a_run_prints_data_to_standard_output_and_notes_to_standard_error(finished: Finished) -> None:
    result = finished.said
    assert result.code == 0, result.err
    first, last = [line for line in result.out.splitlines() if line.startswith("step")]
    assert "1/5" in first
    assert "5/5" in last
    assert "evaluation of epoch 1" in result.out
    assert "nrefs:1" in result.err
    assert result.out.splitlines()[-1].startswith("Finished: 5 steps")
    assert "epochs: 3 -> 1" in result.err
    assert "The output head shares its weights with the embeddings" in result.err


def test_json_prints_the_stream(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    settings = options(one_epoch(tiny_settings))
    result = run(*SFT_TUI, "run", "sft-small", "--no-ui", "--json", *settings, folder=tmp_path)
    stream = (tmp_path / "logs/sft-small-1/events.jsonl").read_text()
    assert result.out == stream
    assert all(decode(line.encode()) for line in result.out.splitlines())


@pytest.mark.parametrize("place", ["file", "column"])
def test_an_input_refused_by_the_trainer_leaves_nothing(
    tmp_path: Path, tiny_settings: dict[str, Any], place: str
) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    wrong = {"train_file": "torn.parquet"} if place == "file" else {"prompt_column": "question"}
    settings = {**one_epoch(tiny_settings), **wrong, "token_store": "store"}
    result = run(*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings), folder=tmp_path)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert ("torn.parquet" if place == "file" else "question") in result.err
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {"store"} == {"torn.parquet", ".stdout", ".stderr"}  # the sound file's tokens may be kept


KILLED = """
import os, signal, sys
if "engine.train" in sys.orig_argv:
    from engine.contract import events, stream
    write = stream.EventWriter.write
    def write_and_die(log, event):
        write(log, event)
        if isinstance(event, events.Step) and event.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    stream.EventWriter.write = write_and_die
"""  # from outside, a test might see the fifth step too late


def test_a_killed_and_resumed_run_ends_as_if_uninterrupted(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    settings = {**tiny_settings, "save_steps": 2}
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = run(*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings), folder=tmp_path / "whole")
    assert whole.code == 0, whole.err

    log = RunDir(tmp_path / "cut/logs/sft-small-1")
    (tmp_path / "sitecustomize.py").write_text(KILLED)
    env = {"PYTHONPATH": str(tmp_path)}
    killed = run(*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings), folder=tmp_path / "cut", env=env)
    assert killed.code == 1
    assert max(steps(log)) == 5
    resumed = run(*SFT_TUI, "run", "sft-small", "--no-ui", "--resume", folder=tmp_path / "cut")
    assert resumed.code == 0, resumed.err
    assert resumed.out.splitlines()[-1] == whole.out.splitlines()[-1]
    assert steps(log) == steps(RunDir(tmp_path / "whole/logs/sft-small-1"))
    weights = "model_save/sft_small/checkpoints/step-00000010/trained.safetensors"
    assert (tmp_path / "cut" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def start_run(folder: Path, settings: dict[str, Any]) -> "subprocess.Popen[bytes]":
    command = [*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, env={**os.environ}, stdin=quiet, stdout=quiet, stderr=quiet)


def steps(log: RunDir) -> dict[int, tuple[float, float, tuple[int, ...]]]:
    """Loss, learning rate and sample ids of every step; a repeated step must repeat them."""
    found: dict[int, tuple[float, float, tuple[int, ...]]] = {}
    for record in EventReader(log.events).poll():
        if isinstance(record.event, events.Step):
            event = record.event
            value = (event.loss, event.lr, tuple(event.sample_ids))
            assert found.setdefault(event.step, value) == value
    return found


def test_a_second_run_in_a_used_folder_is_refused_with_exit_code_3(
    tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    settings = {**tiny_settings, "epochs": 2000}
    viewer = start_run(tmp_path, settings)
    log = RunDir(tmp_path / "logs/sft-small-1")
    try:
        until(lambda: 1 in steps(log))
        second = run(*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings), folder=tmp_path)
        log.request_stop()
        assert viewer.wait(LIMIT) == 0
    finally:
        kill_tree(viewer)
    assert second.code == 3
    assert "sft-small-1 (pid" in second.err
    assert OutputDir(tmp_path / "model_save/sft_small").checkpoint_steps()


def called(folder: Path, *words: str) -> Ended:
    """A command of the app in `folder`."""
    return run(*SFT_TUI, *words, folder=folder)


def test_a_run_is_detached_paused_continued_stopped_and_resumed(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    settings = options({**tiny_settings, "epochs": 2000, "save_steps": 100_000, "bleu_rows": 1})
    log, output = RunDir(tmp_path / "logs/sft-small-1"), OutputDir(tmp_path / "model_save/sft_small")
    started = called(tmp_path, "run", "sft-small", "--detach", *settings)
    assert (started.code, started.out) == (0, "sft-small-1\n")
    assert "sft-small-1 has started. Look at it: sft-tui attach sft-small-1" in started.err
    until(lambda: 3 in steps(log))
    reported = json.loads(called(tmp_path, "status", "--json").out)
    assert (reported["run"], reported["status"], reported["epochs"]) == ("sft-small-1", "running", 2000)
    assert called(tmp_path, "status").out.startswith("sft-small-1 running · epoch ")
    assert called(tmp_path, "resume").code == 3  # it is running

    paused = called(tmp_path, "pause")
    assert (paused.code, paused.out.split()[0]) == (0, "Paused")
    assert called(tmp_path, "status").out.startswith("sft-small-1 paused")
    assert called(tmp_path, "continue", "--detach").out == "sft-small-1\n"
    until(lambda: max(steps(log)) > output.checkpoint_steps()[0] + 2)
    stopped = called(tmp_path, "stop", "sft-small-1")
    assert (stopped.code, stopped.out.split()[0]) == (0, "Stopped")
    assert output.checkpoint_steps()[0] == max(steps(log))
    assert called(tmp_path, "stop").code == 2  # it has ended
    assert called(tmp_path, "continue").code == 2  # it is not paused

    assert called(tmp_path, "resume", "--detach").code == 0
    until(lambda: max(steps(log)) > output.checkpoint_steps()[0] + 2)
    ended = called(tmp_path, "stop", "--now")
    assert ended.code == 0
    assert "Terminated" in ended.err
    listed = called(tmp_path, "runs").out.splitlines()
    assert listed[0].split()[:2] == ["RUN", "STATE"]
    assert listed[1].split()[:2] == ["sft-small-1", "terminated"]
    for said in (called(tmp_path, "logs").out, log.plain_log.read_text()):
        assert all(word in said for word in ("Paused at step", "Stopped at step", "its loss", "Terminated while"))


def test_a_finished_run_trains_only_if_given_more_epochs(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    log = RunDir(tmp_path / "logs/sft-small-1")
    assert called(tmp_path, "run", "sft-small", *options(one_epoch(tiny_settings))).code == 0
    before = log.events.read_bytes()
    again = called(tmp_path, "resume")
    assert (again.code, log.events.read_bytes()) == (0, before)
    assert "sft-small-1 is finished (5 steps)" in again.out
    more = called(tmp_path, "resume", "--epochs", "2")
    assert more.code == 0, more.err
    assert more.out.splitlines()[-1].startswith("Finished: 10 steps")
    assert "epochs 1 -> 2" in more.err
    assert "its loss" in more.err
    assert sorted(steps(log)) == list(range(1, 11))


@pytest.mark.slow
def test_more_epochs_outlast_a_kill_before_the_next_save(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    """The checkpoints that are there are of before the change; what was accepted then is not refused now."""
    log = RunDir(tmp_path / "logs/sft-small-1")
    assert called(tmp_path, "run", "sft-small", *options({**one_epoch(tiny_settings), "save_steps": 100_000})).code == 0
    assert called(tmp_path, "resume", "--epochs", "2000", "--detach").code == 0
    until(lambda: max(steps(log)) > 6)
    (rank,) = read_json(log.processes)["ranks"]
    os.kill(rank["pid"], signal.SIGKILL)
    until(lambda: called(tmp_path, "status").out.startswith("sft-small-1 killed"))
    assert called(tmp_path, "resume", "--detach").code == 0
    until(lambda: bool(steps_of_attempt(log, 3)) or not json.loads(called(tmp_path, "status", "--json").out)["alive"])
    assert max(steps_of_attempt(log, 3), default=0) > 5, called(tmp_path, "status").err
    assert called(tmp_path, "stop").code == 0


def test_the_output_of_a_run_can_be_read_again(finished: Finished, tmp_path: Path) -> None:
    folder, live = finished.folder, finished.said
    log = RunDir(folder / "logs/sft-small-1")
    assert live.code == 0, live.err
    attached = called(folder, "attach")
    assert (attached.code, attached.out) == (0, live.out)
    assert called(folder, "attach", "sft-small-1", "--json").out == log.events.read_text()
    assert called(folder, "logs", "--json").out == log.events.read_text()
    printed = called(folder, "logs").out
    assert (folder / "logs/sft-small-1.log").read_text() == printed
    assert all(line in printed for line in live.out.splitlines())
    assert "Configuration sft-small" in printed
    shutil.copytree(folder / "logs", tmp_path / "logs")
    RunDir(tmp_path / "logs/sft-small-1").trainer_output.write_text("one\n\x1b[31mtwo\n")
    assert called(tmp_path, "logs", "--trainer").out == "one\n␛[31mtwo\n"

    status = called(folder, "status")
    assert status.out.startswith("sft-small-1 finished · epoch 1/1 · step 5/5 100 % · eval loss ")
    assert "Finished: 5 steps" in status.err
    (listed,) = json.loads(called(folder, "runs", "--json").out)
    assert listed == json.loads(called(folder, "status", "--json").out)
    assert (listed["run"], listed["status"], listed["step"], listed["exit_code"]) == ("sft-small-1", "finished", 5, 0)
    assert listed["alive"] is False


@pytest.mark.slow
def test_a_resume_with_differences_is_refused_and_can_be_forced(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    log = RunDir(tmp_path / "logs/sft-small-1")
    settings = options({**tiny_settings, "epochs": 2000})
    assert called(tmp_path, "run", "sft-small", "--detach", *settings).code == 0
    until(lambda: 3 in steps(log))
    assert called(tmp_path, "stop").code == 0
    refused = called(tmp_path, "resume", "--weight_decay", "0.5")
    assert refused.code == 2
    assert "weight_decay 0.0 -> 0.5" in refused.err
    assert "--force" in refused.err
    forced = called(tmp_path, "resume", "--weight_decay", "0.5", "--force", "--detach")
    assert forced.code == 0
    until(lambda: max(steps_of_attempt(log, 3), default=0) > 0)
    assert called(tmp_path, "stop").code == 0
    assert "weight_decay 0.0 -> 0.5" in called(tmp_path, "logs").out


def test_a_proposed_fix_is_applied_on_resume(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    """The end is written here: a rank that meets it is another matter."""
    log = RunDir(tmp_path / "logs/sft-small-1")
    settings = options({**tiny_settings, "save_steps": 3, "epochs": 1})
    assert called(tmp_path, "run", "sft-small", "--detach", *settings).code == 0
    until(lambda: 3 in steps(log))
    assert called(tmp_path, "stop").code in (0, 2)  # it may have finished before
    writer = EventWriter(log.events, "supervisor", 1)
    writer.write(events.RunEnded("out_of_memory", 1, Message("x", {}), apply={"micro_batch_tokens": 64}))
    writer.close()
    fixed = called(tmp_path, "resume", "--apply-fix", "--epochs", "2")
    assert fixed.code == 0, fixed.err
    assert "micro_batch_tokens = 64" in fixed.err
    plans = [r.event for r in EventReader(log.events).poll() if isinstance(r.event, events.Plan)]
    assert [(plan.micro_batch_tokens, plan.effective_batch) for plan in plans] == [(128, 8), (64, 8)]
    none = called(tmp_path, "resume", "--apply-fix")
    assert none.code == 2
    assert "no automatic fix" in none.err


def steps_of_attempt(log: RunDir, attempt: int) -> list[int]:
    """The steps that an attempt did."""
    records = EventReader(log.events).poll()
    return [r.event.step for r in records if isinstance(r.event, events.Step) and r.envelope.attempt == attempt]


def test_an_unknown_run_is_refused_with_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs/sft-small-1").mkdir(parents=True)
    (tmp_path / "logs/sft-small-1/run.json").write_text("{}")
    for command in ("status", "attach", "logs", "stop", "pause", "continue", "resume"):
        error = call(command, "sft-smal-1").exception
        assert isinstance(error, InputError)
        assert error.exit_code == 2
        assert "sft-small-1" in error.message.text()
    assert call("runs", "--logs", "none").exit_code == 0


@pytest.mark.slow
def test_two_processes_train_on_the_cpu(tmp_path: Path, tiny_settings: dict[str, Any]) -> None:
    settings = options(one_epoch(tiny_settings, num_processes=2, gradient_accumulation_steps=4))
    result = run(*SFT_TUI, "run", "sft-small", "--no-ui", *settings, folder=tmp_path)
    assert result.code == 0, result.err
    assert "2 processes on cpu" in result.err
    assert "Finished: 5 steps" in result.out
    assert result.err.count("MB, ") or result.err.count("GB, ")  # a peak for each rank


def test_real_chinese_rows_are_trained_on(tmp_path: Path, tiny_settings: dict[str, Any], real_rows: Path) -> None:
    """The tiny tokenizer knows few of the characters; what counts is that real rows go through."""
    pq.write_table(pq.read_table(real_rows).slice(0, 300), tmp_path / "rows.parquet")
    settings = one_epoch(tiny_settings, train_file="rows.parquet", gradient_accumulation_steps=60, token_store="store")
    refused = run(*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings), folder=tmp_path)
    assert refused.code == 2
    assert "% of the tokens are unknown to the tokenizer" in refused.err
    result = run(*SFT_TUI, "run", "sft-small", "--no-ui", "--force", *options(settings), folder=tmp_path)
    assert result.code == 0, result.err
    assert "300 rows, effective batch 60: 5 steps an epoch" in result.err
    assert "tok:zh" in result.err
    assert " of 300 rows cut to 32 tokens" in result.err


def test_the_test_command_scores_the_best_model(
    finished: Finished, tmp_path: Path, tiny_settings: dict[str, Any]
) -> None:
    words = (*SFT_TUI, "test", "sft-small", *options(one_epoch(tiny_settings)))
    refused = run(*words, folder=tmp_path)
    assert (refused.code, refused.out) == (2, "")
    assert "no best model" in refused.err
    scored = run(*words, "--logs", str(tmp_path / "logs"), folder=finished.folder)
    assert scored.code == 0, scored.err
    evaluation = next(line for line in finished.said.out.splitlines() if line.startswith("evaluation"))
    loss = evaluation.split("loss ")[1].split(",")[0]
    tested = next(line for line in scored.out.splitlines() if line.startswith("  loss "))
    assert tested.split()[1] == loss  # the test file is the validation file here


def test_reply_answers_each_prompt(tmp_path: Path, tiny_t5: Path, tiny_tokenizer: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for path in (*tiny_t5.iterdir(), *tiny_tokenizer.iterdir()):
        (model / path.name).write_bytes(path.read_bytes())
    result = run(*SFT_TUI, "reply", "--model", "model", "你好", "hello", "--max-new-tokens", "4", folder=tmp_path)
    assert result.code == 0, result.err
    assert len(result.out.splitlines()) == 2
    missing = run(*SFT_TUI, "reply", "--model", "absent", "你好", folder=tmp_path)
    assert missing.code == 2
    assert "absent" in missing.err


@pytest.mark.parametrize("option", [["--lang", "zh"], ["--ascii"], ["--slow-link"], ["--logs", "elsewhere"]])
def test_a_screen_option_before_a_command_is_refused(tmp_path: Path, option: list[str]) -> None:
    result = run(*SFT_TUI, *option, "runs", folder=tmp_path)
    assert result.code == 2
    assert f"{option[0]} only applies to the screen" in result.err
