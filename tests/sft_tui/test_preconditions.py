"""Commands called in a folder that no longer exists, or whose output nobody takes."""

import subprocess
import sys
from pathlib import Path

import pytest

import train_low_mem

MAIN = "from sft_tui.cli.main import main; main()"


def called(folder: Path, script: str, *, lang: str = "C.UTF-8") -> "subprocess.CompletedProcess[str]":
    """A shell's line; `sft` is the command."""
    line = f"sft() {{ '{sys.executable}' -P -c '{MAIN}' \"$@\"; }}; {script}"
    env = {"LC_ALL": lang, "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("unbuffered", ["", "export PYTHONUNBUFFERED=1;"])
@pytest.mark.parametrize("words", ["presets", "run --help"])
def test_a_full_stdout_is_reported(tmp_path: Path, words: str, unbuffered: str) -> None:
    result = called(tmp_path, f"{unbuffered} sft {words} > /dev/full")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "error: standard output cannot be written: No space left on device."
    assert "Traceback" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_a_full_stdout_is_reported_in_chinese(tmp_path: Path) -> None:
    assert "错误：无法写入标准输出：" in called(tmp_path, "sft presets > /dev/full", lang="zh_CN.UTF-8").stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    assert called(tmp_path, "sft presets show sft | head -1 > /dev/null").stderr == ""


@pytest.mark.parametrize("words", ["check sft-small", "run sft-small", "data check x.parquet"])
def test_a_removed_working_folder_is_reported(tmp_path: Path, words: str) -> None:
    result = called(tmp_path, f"mkdir gone && cd gone && rmdir ../gone && sft {words}")
    assert result.returncode == 2
    assert "The current folder no longer exists." in result.stderr
    assert "Traceback" not in result.stderr


def test_the_guides_script_reports_a_removed_folder_too(tmp_path: Path) -> None:
    script = Path(train_low_mem.__file__)
    (tmp_path / script.name).symlink_to(script)
    line = f"mkdir gone && cd gone && rmdir ../gone && '{sys.executable}' ../{script.name} train"
    result = called(tmp_path, line)
    assert result.returncode == 2
    assert "The current folder no longer exists." in result.stderr
    assert "Traceback" not in result.stderr


def test_help_works_in_a_removed_folder(tmp_path: Path) -> None:
    result = called(tmp_path, "mkdir gone && cd gone && rmdir ../gone && sft --help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "Commands" in result.stdout
