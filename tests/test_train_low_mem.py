"""The commands of the original guide, word for word, and what they do without a GPU."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract import events
from engine.contract.outputdir import OutputDir
from engine.contract.rundir import RunDir
from engine.contract.stream import EventReader
from sft_tui.child_process import LIBRARY_SETTINGS
from tests.conftest import TRAIN_ROWS
from tests.processes import SFT_TUI, Result, kill_tree, options, run, until
from train_low_mem import cli, without_switches

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
    (project / "config.py").write_text("class TrainConfigSFTSmall:\n    max_seq_len = 99\nraise SystemExit\n")
    result = python(project, "train", *SMALL, *shape, "--learn_rate=3e-5", "--mixed_precision=no")
    finished(result, project, "sft_small")
    assert "Using TrainConfigSFTSmall" in result.err.splitlines()[1]
    assert "To use its values: --max_seq_len=99" in result.err
    assert "Custom parameters:" in result.err
    assert "learn_rate: 5e-05 -> 3e-05" in result.err
    assert "Low-memory training, made for 16 GB of memory" in result.err
    assert "Memory available:" in result.err
    assert "Using LowMemDataset" in result.err
    assert "Using" not in result.out  # which is data

    run_dir = RunDir(project / "logs/sft-small-1")
    assert run_dir.plain_log.read_text() == run(*SFT_TUI, "logs", folder=project).out
    readings = [r.event for r in EventReader(run_dir.events).poll() if isinstance(r.event, events.Host)]
    assert readings[0].rank_memory[0] > 10_000_000
    state = project / "model_save/sft_small/chat_small_t5.best.bin"
    with zipfile.ZipFile(state) as archive:  # as torch.save writes it
        assert archive.testzip() is None

    again = python(project, "train", *SMALL, "--is_keep_training=True")
    assert again.code == 0
    assert "is finished (5 steps)" in again.out


@pytest.mark.slow
def test_fine_tuning_starts_from_what_was_pretrained(project: Path, shape: list[str]) -> None:
    """The guide's two stages one after the other: the second finds the model of the first."""
    model = project / "model_save/chat_small_t5.best.bin"
    model.unlink()
    refused = python(project, "train", *SMALL, *shape)
    assert refused.code == 2
    assert "sft-tui run pretrain" in refused.err
    result = python(project, "train", *shape)
    finished(result, project, "pretrain")
    assert "Using TrainConfig (" in result.err
    assert model.is_file()
    result = python(project, "train", "--is_finetune=True", *shape)
    finished(result, project, "sft")
    assert "Using TrainConfigSFT (" in result.err


def test_the_multi_gpu_form_trains_once_on_the_cpu(project: Path, shape: list[str]) -> None:
    command = (*LAUNCH, "./train_low_mem.py", "train", *SMALL, *shape, "--epochs=2", "--learn_rate=3e-5")
    result = run(*command, folder=project, env={"CUDA_VISIBLE_DEVICES": ""})
    finished(result, project, "sft_small")
    assert "40 rows, effective batch 16: 3 steps an epoch, 6 in all" in result.err
    assert sorted(path.name for path in (project / "logs").iterdir()) == ["sft-small-1", "sft-small-1.log"]
    stream = EventReader(RunDir(project / "logs/sft-small-1").events).poll()
    memory = [record.event.rank_memory for record in stream if isinstance(record.event, events.Host)]
    assert all(each > 10_000_000 for each in memory[0])  # of both ranks
    assert len(memory[0]) == 2
    assert OutputDir(project / "model_save/sft_small").checkpoint_steps()[0] == 6


@pytest.mark.slow
def test_the_best_model_is_tested(project: Path, shape: list[str]) -> None:
    python(project, "train", *SMALL, *shape)
    result = python(project, "test", "--use_small_config=True", "--max_new_tokens=4")
    assert result.code == 0, result.err
    assert "Evaluated model_save/sft_small/best on 8 rows of data/my_test_dataset.parquet" in result.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [(["stop"], 0, "Stopped at step"), pytest.param(["stop", "--now"], 1, "Termin", marks=pytest.mark.slow)],
)
def test_the_app_sees_and_stops_a_run_of_the_guide(
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
    assert "other settings: max_seq_len 512 -> 9." in again.err  # and no others: it continues with those it had


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--use_small_config=True"], "add --is_finetune=True"),
        (["train", *SMALL, "--epoch=5"], "--epochs"),
        (["train", *SMALL, "--epochs=0"], "epochs = 0"),
        (["train", *SMALL, "--is_keep_training=True", "--fresh=True"], "give one of them"),
        (["test", *SMALL, "--best_epoch=3"], "of all epochs the best model is kept"),
    ],
)
def test_wrong_use_is_refused(project: Path, arguments: list[str], said: str) -> None:
    result = python(project, *arguments)
    assert result.code == 2
    assert said in result.err
    assert not (project / "logs").exists()


def test_a_missing_model_is_refused_by_name(project: Path) -> None:
    (project / "model_save/chat_small_t5.best.bin").unlink()
    (project / "model_save/pretrain/best").mkdir(parents=True)
    result = python(project, "train", *SMALL)
    assert result.code == 2
    assert "model_save/chat_small_t5.best.bin" in result.err
    words = [*SMALL, "--pretrained_model=model_save/pretrain/best"]
    assert f"`python train_low_mem.py train {' '.join(words)}`" in result.err
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
def test_the_resume_command_names_each_switch_once(arguments: list[str], kept: list[str]) -> None:
    assert without_switches(arguments, "--is_keep_training", "--fresh") == kept


def test_no_option_of_ours_is_taken_by_a_launcher() -> None:
    """argparse takes the beginning of an option's name for the option, even behind the script."""
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    ours = [option for command in cli.commands.values() for parameter in command.params for option in parameter.opts]
    ours.remove("--logs")  # which has another name for this
    ours.remove("--logs")
    for parser in (launch_command_parser(), get_args_parser()):
        for option in {*ours, "--log_dir"}:
            given = parser.parse_args(["train_low_mem.py", "train", f"{option}=x"])
            assert given.training_script_args == ["train", f"{option}=x"]


def test_a_launcher_that_starts_one_process_for_two_is_noticed(project: Path, shape: list[str]) -> None:
    """accelerate does so without --multi_gpu, and says nothing of it."""
    launch = [word for word in LAUNCH if word != "--multi_gpu"]
    result = run(*launch, "./train_low_mem.py", "train", *SMALL, *shape, folder=project, env=ON_CPU)
    finished(result, project, "sft_small")
    assert "asked for 2 processes and started this one alone: the effective batch is 8, not 16" in result.err
    assert "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 ./train_low_mem.py" in result.err
    assert "started this one alone" in (project / "logs/sft-small-1.log").read_text()
