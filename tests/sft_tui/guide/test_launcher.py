"""How many processes a launcher was asked for, by its command line."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sft_tui.guide.launcher import alone, processes_asked

SCRIPT = "./train_low_mem.py"
AFTER = ["train", "--is_finetune=True", "--num_processes=9"]


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["python", "/venv/bin/accelerate", "launch", "--num_processes", "2", SCRIPT, *AFTER], 2),
        (["python", "/venv/bin/accelerate", "launch", "--cpu", "--num_processes=4", "/a/train_low_mem.py"], 4),
        (["python", "-m", "accelerate.commands.launch", "--num-processes", "3", SCRIPT, *AFTER], 3),
        (["torchrun", "--nproc-per-node=2", SCRIPT], 2),
        (["python", "-m", "torch.distributed.run", "--nproc_per_node", "2", SCRIPT], 2),
        (["torchrun", "--nproc-per-node", "gpu", SCRIPT], 0),
        (["accelerate", "launch", SCRIPT, *AFTER], 0),
        (["accelerate", "launch", "--num_processes", "2", "other.py"], 0),
        (["accelerate", "launch", "--num_processes", SCRIPT], 0),
        (["accelerate", "launch", "--num_processes", "9" * 4000, SCRIPT], 0),
        (["bash", "-c", f"accelerate launch --num_processes 2 {SCRIPT}"], 0),
        ([], 0),
    ],
)
def test_the_words_before_the_script_count(command: list[str], asked: int) -> None:
    assert processes_asked(SCRIPT, [["python", SCRIPT, *AFTER], command, ["bash"]]) == asked


def test_a_parent_that_asked_for_more_is_noticed_with_both_commands_that_work(tmp_path: Path) -> None:
    child = tmp_path / "train_low_mem.py"
    child.write_text(
        textwrap.dedent("""
        import sys
        from sft_tui.guide.launcher import alone
        message = alone(sys.argv[0], sys.argv[1:], 8, on_cpu=True)
        print(message.text() if message else "nothing")
        """)
    )
    parent = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
    said = {}
    for count in ("2", "1"):
        words = [sys.executable, "-c", parent, str(child), "train", "a b"]
        launcher = [*words[:3], "--", "--num_processes", count, *words[3:]]
        # The parent starts what stands behind the count; its own command line has the count.
        launcher[2] = parent.replace("sys.argv[1:]", "sys.argv[4:]")
        result = subprocess.run(launcher, capture_output=True, text=True, timeout=60, check=True)
        said[count] = result.stdout
    assert "asked for 2 processes and started this one alone: the effective batch is 8, not 16" in said["2"]
    assert f"`ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 {child} train 'a b'`" in said["2"]
    assert f"`python {child} train 'a b'`" in said["2"]
    assert said["1"] == "nothing\n"


def test_a_process_that_nobody_launched_is_not_alone() -> None:
    assert alone("train_low_mem.py", [], 8, on_cpu=True) is None
