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
def test_options_before_the_script_count(command: list[str], asked: int) -> None:
    assert processes_asked(SCRIPT, [["python", SCRIPT, *AFTER], command, ["bash"]]) == asked


CONFIG = "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: {}\nuse_cpu: true\n"


@pytest.fixture
def accelerate_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with files of accelerate's settings; the one it looks for by itself has 2 processes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    usual = tmp_path / "hf" / "accelerate" / "default_config.yaml"
    usual.parent.mkdir(parents=True)
    usual.write_text(CONFIG.format(2))
    (tmp_path / "three.yaml").write_text(CONFIG.format(3))
    (tmp_path / "four.json").write_text('{"num_processes": 4}')
    for number, content in enumerate(
        ["[1, 2]", "num_processes: -1", "num_processes: [", "a: &a [*a, 2]", "\0\xff", ""]
    ):
        (tmp_path / f"odd{number}.yaml").write_text(content)


@pytest.mark.usefixtures("accelerate_files")
@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["python", "/venv/bin/accelerate", "launch", SCRIPT, *AFTER], 2),
        (["python", "-m", "accelerate.commands.launch", SCRIPT], 2),
        (["/venv/bin/accelerate-launch", SCRIPT], 2),
        (["accelerate", "launch", "--config_file", "three.yaml", SCRIPT], 3),
        (["accelerate", "launch", "--config-file=three.yaml", "--cpu", SCRIPT], 3),
        (["accelerate", "launch", "--config_file", "four.json", SCRIPT], 4),
        (["accelerate", "launch", "--config_file", "three.yaml", "--num_processes", "1", SCRIPT], 1),
        (["accelerate", "launch", "--cpu", SCRIPT], 0),
        (["accelerate", "launch", "--config_file", "absent.yaml", SCRIPT], 0),
        *((["accelerate", "launch", "--config_file", f"odd{number}.yaml", SCRIPT], 0) for number in range(6)),
        (["torchrun", SCRIPT], 0),
        (["python", SCRIPT], 0),
    ],
)
def test_accelerates_config_file_gives_the_number_of_processes(command: list[str], asked: int) -> None:
    assert processes_asked(SCRIPT, [["python", SCRIPT, *AFTER], command, ["bash"]]) == asked


@pytest.mark.parametrize(("name", "below"), [("XDG_CACHE_HOME", "huggingface"), ("HOME", ".cache/huggingface")])
def test_the_default_config_is_where_accelerate_keeps_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, below: str
) -> None:
    for variable in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, str(tmp_path))
    file = tmp_path / below / "accelerate" / "default_config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG.format(5))
    assert processes_asked(SCRIPT, [["accelerate", "launch", SCRIPT]]) == 5


def test_a_launcher_that_asked_for_more_processes_is_noticed(tmp_path: Path) -> None:
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


def test_a_process_without_launcher_is_accepted() -> None:
    assert alone("train_low_mem.py", [], 8, on_cpu=True) is None
