"""A `config.py` of the original scripts: compared as data, never run, whatever it holds."""

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from engine.contract.messages import Message
from sft_tui.guide import config_file

HEAD = """
from dataclasses import dataclass
from os.path import dirname, abspath
PROJECT_ROOT: str = '/'.join(abspath(dirname(__file__)).split('\\\\')) if '\\\\' in __file__ else dirname(__file__)
open("executed", "w")
"""
SMALL = """
@dataclass
class TrainConfigSFTSmall:
    epochs: int = 3
    batch_size_per_gpu: int = 1
    train_file: str = PROJECT_ROOT + '/data/sft_train_small_train.parquet'
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answered(folder: Path, source: str, **given: Any) -> Message | None:
    (folder / "config.py").write_text(source)
    message = config_file.answer([folder], "sft-small", given)
    assert not (folder / "executed").exists()
    return message


def options(message: Message | None) -> list[str]:
    """The options that the answer proposes."""
    assert message is not None
    assert message.code == "config_file_differs", message
    return shlex.split(str(message.args["options"]))


def test_the_guides_own_config_has_no_differences(folder: Path) -> None:
    message = answered(folder, HEAD + SMALL)
    assert message is not None
    assert message.code == "config_file_same"
    assert "neither read nor executed" in message.what()
    assert "不会被读取或执行" in message.what("zh")


def test_changed_values_are_named_with_their_options(folder: Path) -> None:
    changed = SMALL.replace("= 3", "= 5").replace("sft_train_small_train", "我的 rows") + "    max_seq_len: int = 256\n"
    message = answered(folder, HEAD + changed)
    assert options(message) == ["--epochs=5", "--train_file=data/我的 rows.parquet", "--max_seq_len=256"]
    assert message is not None
    assert "epochs = 5 (3)" in message.what()
    for lang in ("en", "zh"):
        assert "--max_seq_len=256" in message.fix(lang)


def test_values_given_on_the_command_line_are_not_compared(folder: Path) -> None:
    message = answered(folder, HEAD + SMALL.replace("= 3", "= 5"), epochs=7)
    assert message is not None
    assert message.code == "config_file_same"


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("learn_rate = 3e-5", "--learn_rate=3e-05"),
        ("learn_rate = 6 / 200_000", "--learn_rate=3e-05"),
        ("dropout_rate = -1 + 1.5", "--dropout_rate=0.5"),
        ("epochs: int = 2 * 4", "--epochs=8"),
        ("tokenizer_dir: str = 'tok'", "--tokenizer=tok"),
        ("finetune_from_ckp_file = f'{PROJECT_ROOT}/m.bin'", "--pretrained_model=m.bin"),
        ("output_dir = os.path.join(PROJECT_ROOT, 'out', 'x')", "--output_dir=out/x"),
        ("train_file = '/mnt/disk/a.parquet'", "--train_file=/mnt/disk/a.parquet"),
        ("mixed_precision = 'no'", "--mixed_precision=fp32"),
        ("seed = SEED", "--seed=7"),
        ("epochs: int = field(default=8)", "--epochs=8"),
        ("output_dir = Path(PROJECT_ROOT) / 'out'", "--output_dir=out"),
        ("output_dir = join(dirname(abspath(__file__)), 'out')", "--output_dir=out"),
    ],
)
def test_values_are_read_in_every_form_of_data(folder: Path, line: str, option: str) -> None:
    assert options(answered(folder, f"{HEAD}SEED = 7\nclass TrainConfigSFTSmall:\n    {line}\n")) == [option]


@pytest.mark.parametrize(
    "line",
    [
        "epochs = int(open('executed', 'w').write('x'))",
        "epochs = [5][0]",
        "epochs = True",
        "epochs = 'many'",
        "epochs = 10 ** 10 ** 10",
        "epochs = 0",
        "train_file = None",
        "train_file = getenv('HOME')",
        "train_file = 'a'.join('bc')",
        "unheard_of = 5",
        "mixed_precision = 'bf17'",
        "learn_rate = 1 / 0",
    ],
)
def test_values_that_only_running_would_show_are_left_out(folder: Path, line: str) -> None:
    message = answered(folder, f"{HEAD}class TrainConfigSFTSmall:\n    {line}\n")
    assert message is not None
    assert message.code == "config_file_same"


def test_a_config_class_inherits_values(folder: Path) -> None:
    base = "class TrainConfigSFT:\n    epochs = 9\n    seed = 5\n"
    own = "class TrainConfigSFTSmall(TrainConfigSFT):\n    seed = 6\n"
    assert options(answered(folder, base + own)) == ["--epochs=9", "--seed=6"]


def test_the_shape_of_the_model_is_compared_too(folder: Path) -> None:
    assert options(answered(folder, HEAD + "class T5ModelConfig:\n    d_ff: int = 2048\n" + SMALL)) == ["--d_ff=2048"]


@pytest.mark.parametrize(
    "source",
    [
        "class TrainConfigSFTSmall:\n  epochs = = 5\n",
        "TrainConfig\0",
        "TrainConfig = " + "(" * 5000,
        "class TrainConfig:\n  pass\n",
        "# TrainConfig\n" + "x = 1 " + "+ 1" * 20000,
    ],
)
def test_a_config_that_cannot_be_compared_is_reported(folder: Path, source: str) -> None:
    message = answered(folder, source)
    assert message is not None
    assert message.code == "config_file_unread"
    assert "--train_file" in message.fix("zh")


def test_values_that_would_grow_endlessly_are_left_out(folder: Path) -> None:
    doubled = "A = 'aaaa'\nB = 7\n" + "A = A + A\nB = B * B\n" * 60
    message = answered(folder, f"{doubled}class TrainConfigSFTSmall:\n    train_file = A\n    seed = B\n")
    assert message is not None
    assert message.code == "config_file_same"


@pytest.mark.parametrize("kind", ["none", "of something else", "folder", "fifo", "unreadable link"])
def test_an_unrelated_config_is_ignored(folder: Path, kind: str) -> None:
    path = folder / "config.py"
    if kind == "of something else":
        path.write_text("DEBUG = True\n")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "unreadable link":
        path.symlink_to("absent")
    assert config_file.answer([folder], "sft-small", {}) is None


def test_the_config_next_to_the_script_takes_precedence(folder: Path) -> None:
    for name, epochs in (("script", 4), ("work", 5)):
        (folder / name).mkdir()
        (folder / name / "config.py").write_text(f"class TrainConfigSFTSmall:\n    epochs = {epochs}\n")
    message = config_file.answer([folder / "script", folder / "work"], "sft-small", {})
    assert options(message) == ["--epochs=4"]


def test_a_literal_project_root_is_used(folder: Path) -> None:
    own = "class TrainConfigSFTSmall:\n    train_file = PROJECT_ROOT + '/a.parquet'\n"
    assert options(answered(folder, "PROJECT_ROOT = '/data/root'\n" + own)) == ["--train_file=/data/root/a.parquet"]
