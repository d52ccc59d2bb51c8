"""The commands of the original guide, word for word, and what they do where there is no GPU."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.rundir import OutputDir
from sft_tui.ranks import LIBRARY_SETTINGS
from tests.conftest import TRAIN_ROWS
from tests.processes import SFT_TUI, Result, kill_tree, options, run, until
from train_low_mem import without_switches

SCRIPT = Path(__file__).parents[1] / "train_low_mem.py"
LAUNCH = (sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_processes", "2")
SMALL = ("--is_finetune=True", "--use_small_config=True")
ON_CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def project(tmp_path: Path, tiny_tokenizer: Path, tiny_t5_bin: Path) -> Path:
    """A folder as the guide's users have it: data, tokenizer and model at the paths the presets name."""
    (tmp_path / "data").mkdir()
    (tmp_path / "model_save").mkdir()
    prompts, responses = zip(*TRAIN_ROWS, strict=True)
    table = pa.table({"prompt": prompts, "response": responses})
    names = (
        "sft_train_small_train",
        "sft_train_small_valid",
        "sft_train_dataset_10k",
        "sft_valid_dataset_1k",
        "my_train_dataset",
        "my_valid_dataset",
        "my_test_dataset",
    )
    for name in names:
        pq.write_table(
            table.slice(0, 8 if "valid" in name or "test" in name else 40), tmp_path / f"data/{name}.parquet"
        )
    shutil.copytree(tiny_tokenizer, tmp_path / "model_save/my_tokenizer_sp")
    shutil.copy(tiny_t5_bin, tmp_path / "model_save/chat_small_t5.best.bin")
    shutil.copy(SCRIPT, tmp_path)
    return tmp_path


@pytest.fixture
def shape(tiny_shape: dict[str, int]) -> list[str]:
    """What makes the presets fit the tiny model."""
    return options({**tiny_shape, "max_new_tokens": 4, "epochs": 1})


def python(project: Path, *arguments: str) -> Result:
    return run(sys.executable, "train_low_mem.py", *arguments, folder=project, env=ON_CPU)


def finished(result: Result, project: Path, output: str) -> None:
    assert result.code == 0, result.err
    assert "Finished: " in result.out
    assert (project / "model_save" / output / "best/model.safetensors").is_file()


def test_one_process_trains_the_small_configuration(project: Path, shape: list[str]) -> None:
    result = python(project, "train", *SMALL, *shape, "--learn_rate=3e-5")
    finished(result, project, "sft_small")
    assert "TrainConfigSFTSmall = sft-small" in result.out
    assert "learn_rate: 5e-05 -> 3e-05" in result.err
    assert "Memory available:" in result.err
    again = python(project, "train", *SMALL, "--is_keep_training=True")
    assert again.code == 0
    assert "is finished (5 steps)" in again.out


@pytest.mark.parametrize(
    ("switches", "original", "output"),
    [(["--is_finetune=True"], "TrainConfigSFT = sft", "sft"), ([], "TrainConfig = pretrain", "pretrain")],
)
def test_the_other_configurations(
    project: Path, shape: list[str], switches: list[str], original: str, output: str
) -> None:
    result = python(project, "train", *switches, *shape)
    finished(result, project, output)
    assert original in result.out.splitlines()


def test_the_multi_gpu_form_without_gpus_is_refused_and_says_what_works(project: Path) -> None:
    """accelerate would start two processes that each train alone, into one folder."""
    result = run(*LAUNCH, "./train_low_mem.py", "train", *SMALL, folder=project, env={"CUDA_VISIBLE_DEVICES": ""})
    assert result.code != 0
    assert result.err.count("2 processes were launched, and each finds a world of 1") == 1
    assert "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2" in result.err
    assert not (project / "logs").exists()
    assert not (project / "model_save/sft_small").exists()


def test_the_multi_gpu_form_on_the_cpu_is_one_training(project: Path, shape: list[str]) -> None:
    command = (*LAUNCH, "./train_low_mem.py", "train", *SMALL, *shape, "--epochs=2", "--learn_rate=3e-5")
    result = run(*command, folder=project, env=ON_CPU)
    finished(result, project, "sft_small")
    assert "40 rows, effective batch 16: 3 steps an epoch, 6 in all" in result.err
    assert [path.name for path in (project / "logs").iterdir() if path.is_dir()] == ["sft-small-1"]
    assert OutputDir(project / "model_save/sft_small").checkpoint_steps()[0] == 6


def test_the_best_model_is_tested(project: Path, shape: list[str]) -> None:
    python(project, "train", *SMALL, *shape)
    result = python(project, "test", *SMALL, "--max_new_tokens=4")
    assert result.code == 0, result.err
    assert "Evaluated 8 rows of data/my_test_dataset.parquet" in result.out


@pytest.mark.parametrize(
    ("words", "code", "said"), [(["stop"], 0, "Stopped at step"), (["stop", "--now"], 1, "Termin")]
)
def test_a_run_that_was_started_so_is_seen_and_stopped_by_the_app(
    project: Path, shape: list[str], words: list[str], code: int, said: str
) -> None:
    """It has no supervisor, and is its own viewer."""
    command = [sys.executable, "train_low_mem.py", "train", *SMALL, *shape, "--epochs=2000", "--save_steps=2"]
    with (project / "out").open("wb") as out:
        trainer = subprocess.Popen(
            command, cwd=project, env={**os.environ, **ON_CPU}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        saved = OutputDir(project / "model_save/sft_small")
        until(lambda: bool(saved.checkpoint_steps()))
        assert run(*SFT_TUI, "status", folder=project).out.startswith("sft-small-1 running")
        began_with = Path(f"/proc/{trainer.pid}/environ").read_text().split("\0")
        assert {f"{name}={os.environ.get(name, value)}" for name, value in LIBRARY_SETTINGS.items()} <= {*began_with}
        busy = python(project, "train", *SMALL, *shape)
        assert busy.code == 3
        assert f"sft-small-1 (pid {trainer.pid}, since 20" in busy.err
        result = run(*SFT_TUI, *words, folder=project)
        assert result.code == 0, result.err
        assert trainer.wait(60) == code
    finally:
        kill_tree(trainer)
    assert said in result.out + result.err
    again = python(project, "train", *SMALL, *shape, "--epochs=2000", "--is_keep_training=True", "--max_seq_len=9")
    assert again.code == 2
    assert "other settings: max_seq_len 512 -> 9." in again.err  # and no others: it goes on with those it had


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--use_small_config=True"], "add --is_finetune=True"),
        (["train", *SMALL, "--epoch=5"], "--epochs"),
        (["train", *SMALL, "--epochs=0"], "epochs = 0"),
        (["train", *SMALL, "--is_keep_training=True", "--fresh=True"], "give one of them"),
    ],
)
def test_wrong_use_is_refused(project: Path, arguments: list[str], said: str) -> None:
    result = python(project, *arguments)
    assert result.code == 2
    assert said in result.err
    assert not (project / "logs").exists()


def test_a_missing_model_is_refused_by_name(project: Path) -> None:
    (project / "model_save/chat_small_t5.best.bin").unlink()
    result = python(project, "train", *SMALL)
    assert result.code == 2
    assert "model_save/chat_small_t5.best.bin" in result.err
    assert not (project / "model_save/sft_small").exists()


def test_a_run_refused_by_the_trainer_leaves_no_log(project: Path) -> None:
    """The bare state dict does not have the shape of the preset."""
    result = python(project, "train", *SMALL)
    assert result.code == 2
    assert "do not fit the model" in result.err
    assert not (project / "logs").exists()


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["train", "--is_keep_training=True", "--epochs=5"], ["train", "--epochs=5"]),
        (["train", "--is_keep_training", "True", "--epochs", "5"], ["train", "--epochs", "5"]),
        (["train", "--fresh", "--epochs=5"], ["train", "--epochs=5"]),
    ],
)
def test_the_command_to_go_on_names_each_switch_once(arguments: list[str], kept: list[str]) -> None:
    assert without_switches(arguments, "--is_keep_training", "--fresh") == kept
