"""Child processes: none runs a file of the folder it is called in, since people call us inside what they downloaded.

And all that load torch get the same environment for it.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.contract.config import to_json
from engine.contract.conversing import Opened, line_of
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from sft_tui import conversation
from sft_tui.child_process import LIBRARY_SETTINGS
from sft_tui.conversation import Conversation
from sft_tui.preflight import ask_engine
from sft_tui.preflight.ask_engine import Inspector
from sft_tui.supervise import ranks
from sft_tui.supervise.ranks import Ranks
from tests.processes import end_runs, options, run, until

ROOT = Path(__file__).parents[2]
SCRIPT = str(Path(sys.executable).with_name("sft-tui"))
# What our processes import, what Python itself looks for as it starts, and our own packages.
NAMES = ("numpy", "torch", "json", "click", "psutil", "pyarrow", "sitecustomize", "usercustomize", "readline", "this")
PACKAGES = {"engine": ("__init__", "inspect", "train", "reply"), "tests": ("__init__",)}
ENV = {"LC_ALL": "C.UTF-8", "ACCELERATE_USE_CPU": "true"}


@pytest.fixture
def trapped(tmp_path: Path) -> Iterator[Path]:
    """A folder whose every Python file leaves a mark where it is run."""
    trap = f"open({str(tmp_path / 'marks')!r}, 'a').write(__file__ + '\\n')\n"
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(trap)
    for package, modules in PACKAGES.items():
        (folder / package).mkdir()
        for module in modules:
            (folder / package / f"{module}.py").write_text(trap)
    yield folder
    end_runs(tmp_path)


def marks(folder: Path) -> str:
    """The files of the folder that were run."""
    path = folder.parent / "marks"
    return path.read_text() if path.exists() else ""


def test_the_trap_works_if_the_folder_is_on_the_path(trapped: Path) -> None:
    run(sys.executable, "-c", "import numpy, engine.inspect", folder=trapped)
    assert set(marks(trapped).split()) == {
        str(trapped / name) for name in ("numpy.py", "engine/__init__.py", "engine/inspect.py")
    }


@pytest.mark.parametrize(
    "program", [(SCRIPT,), (sys.executable, "-m", "sft_tui")], ids=["sft-tui", "python -m sft_tui"]
)
def test_a_command_imports_nothing_from_the_folder(trapped: Path, program: tuple[str, ...]) -> None:
    assert run(*program, "presets", folder=trapped).code == 0
    assert run(*program, "runs", folder=trapped).code == 0
    assert marks(trapped) == ""


def test_children_import_nothing_from_the_folder(trapped: Path, tiny_settings: dict[str, Any]) -> None:
    (trapped / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n' * 9)
    settings = options({**tiny_settings, "epochs": 1, "save_steps": 100})
    for words in (
        ["data", "import", "rows.jsonl", "--train", "t.parquet", "--valid", "v.parquet"],
        ["run", "sft-small", "--no-ui", "--force", *settings],
    ):
        result = run(SCRIPT, *words, folder=trapped, env=ENV)
        assert result.code == 0, (words, result.err)
        assert marks(trapped) == "", words


def test_the_guides_script_imports_nothing_next_to_it(trapped: Path) -> None:
    source = (ROOT / "train_low_mem.py").read_text()
    imports = "import google.protobuf\nimport os\n"  # as libraries do later: a package spread over several folders
    (trapped / "train_low_mem.py").write_text(source.replace("import os\n", imports, 1))
    (trapped / "google.py").write_text((trapped / "json.py").read_text())
    shutil.rmtree(trapped / "engine")  # which would be its own
    assert "--epochs" in run(sys.executable, "train_low_mem.py", "train", "--help", folder=trapped).out
    assert marks(trapped) == ""


TELLS = """
import json, os, sys
with open(sys.argv[1] + "~", "w") as file:
    json.dump(dict(os.environ), file)
os.rename(file.name, sys.argv[1])
print(sys.argv[2], end="", flush=True)
sys.stdin.read()
"""


@contextmanager
def rank(folder: Path) -> Iterator[None]:
    """A process of a training."""
    run_dir = RunDir(folder)
    started = Ranks(run_dir, RunRecord("run", "demo", "train", to_json(preset("demo").config)), 1, None)
    started.start()
    yield
    until(lambda: bool(started.reap()))


STARTED: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "engine.reply": lambda _folder: Conversation("model"),
    "engine.inspect": lambda _folder: Inspector(),
    "engine.train": rank,
}


@pytest.mark.parametrize("program", STARTED)
def test_whatever_loads_torch_gets_on_with_a_busy_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    noted = tmp_path / "environment"
    tells = [sys.executable, "-c", TELLS, str(noted), line_of(Opened("t5", "pairs", 512)).decode()]
    monkeypatch.setattr(conversation, "module_command", lambda _module: tells)
    monkeypatch.setattr(ranks, "module_command", lambda *_: tells)
    monkeypatch.setattr(ask_engine, "COMMAND", tells)
    for name in (*LIBRARY_SETTINGS, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    with STARTED[program](tmp_path):
        until(noted.exists)
    found = json.loads(noted.read_text())
    assert found.items() >= {**LIBRARY_SETTINGS, "GOMP_SPINCOUNT": "7"}.items()  # what the user has set stays
    assert 1 <= int(found["OMP_NUM_THREADS"]) <= len(os.sched_getaffinity(0))
