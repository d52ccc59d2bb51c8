"""The account of what was tried and lost, the proof that no test leaves anything, and a model to try on."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.contract.outputdir import OutputDir
from tests.faults import tiny as tiny_model
from tests.faults.scenarios import SCENARIOS, ScenarioTable
from tests.faults.tiny import Tiny, copy, save_and_prune
from tests.faults.untrusted_runs import UntrustedRuns, no_code_is_copied
from tests.processes import until

SHARED_MEMORY = Path("/dev/shm")
PATIENCE = 60.0  # seconds a process that was killed may take to be gone


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> ScenarioTable:
    """The account of all scenarios: `with table.scenario("…") as tries: with tries.one("…"): …`."""
    return request.config.stash[SCENARIOS]


@pytest.fixture
def cuts_saves() -> None:
    """For tests that kill a process inside a save, or plant what that leaves: staging may be found after them."""


@pytest.fixture(scope="package")
def meetings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary folder of these tests' own, where the ranks of their runs meet: others may run on the machine."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)  # what was found before
        yield folder


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, tmp_path: Path, meetings: Path) -> Iterator[None]:
    """Proves after every test that it left no process, no shared memory, no place to meet, and no staging."""
    children, shared = set(_children()), _shared_memory()
    yield
    _wait_for("processes", lambda: set(_children()) - children)
    _wait_for("processes that know the test's folder", lambda: _processes_in(tmp_path))
    _wait_for("shared memory", lambda: {path for path in _shared_memory() - shared if not _held_by_others(path)})
    _wait_for("where ranks met", lambda: set(meetings.glob("sft-tui-*")))
    if "cuts_saves" not in request.fixturenames:
        staging = [path for path in tmp_path.rglob(".tmp*") if "checkpoints" in path.parts]
        assert staging == [], "staging was left"


def _wait_for(what: str, left: Callable[[], set[Any]]) -> None:
    with contextlib.suppress(AssertionError):
        until(lambda: not left(), PATIENCE)
    assert left() == set(), f"{what} left behind"


def _children() -> list[psutil.Process]:
    """Of this process, all generations; zombies among them."""
    return psutil.Process().children(recursive=True)


def _processes_in(folder: Path) -> set[Any]:
    """Processes whose working folder or command line is in `folder`, no matter which process is their parent by now."""
    found: set[Any] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and _knows(process, str(folder)):
                found.add(process)
    return found


def _knows(process: psutil.Process, folder: str) -> bool:
    if any(folder in word for word in process.cmdline()):
        return True
    where = process.cwd()
    return where == folder or where.startswith(f"{folder}/")


def _shared_memory() -> set[Path]:
    return set(SHARED_MEMORY.iterdir()) if SHARED_MEMORY.is_dir() else set()


def _held_by_others(path: Path) -> bool:
    """Whether a process that is none of ours uses it: others on the machine have shared memory too."""
    ours = {os.getpid(), *(child.pid for child in _children())}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in ours and _uses(process.pid, path):
                return True
    return False


def _uses(pid: int, path: Path) -> bool:
    folder = Path(f"/proc/{pid}")
    if str(path) in (folder / "maps").read_text():
        return True
    return any(os.readlink(fd) == str(path) for fd in (folder / "fd").iterdir())


@pytest.fixture(scope="session")
def tiny(tiny_t5: Path, tiny_tokenizer: Path) -> Tiny:
    """A model that learned for one step, in this process."""
    return tiny_model.load(tiny_t5, tiny_tokenizer)


@pytest.fixture(scope="session")
def two_saved(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the checkpoints of steps 1 and 2 and a best model, marked 1.0; only to be copied."""
    output = OutputDir(tmp_path_factory.mktemp("two") / "output")
    writer = tiny.writer(output)
    for step in (1, 2):
        save_and_prune(writer, step)
    tiny.publish(output, 1.0)
    return output.path


@pytest.fixture
def output(two_saved: Path, tmp_path: Path) -> OutputDir:
    """A copy of `two_saved` for one test."""
    return copy(two_saved, tmp_path / "output")


@pytest.fixture
def untrusted(
    tmp_path: Path, tiny_settings: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> Iterator[UntrustedRuns]:
    """Runs in this process on untrusted files; no file is hostile yet."""
    with no_code_is_copied():
        yield UntrustedRuns(tmp_path, tiny_settings, capfd)
