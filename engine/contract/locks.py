"""Locks of folders: a flock that ends with the last process that shares it, signed by its holder.

Nothing here breaks a lock. The kernel lets go of a flock when the last process that inherited it is dead, and not
before; the signature (pid, start time of that process, boot of the machine) tells people who holds it.
"""

import contextlib
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from engine.contract.messages import BusyError, InputError
from engine.contract.rundir import OutputDir, read_json, why_unwritable
from engine.contract.stream import last_step

LOCK_NAME = ".lock"
PATIENCE = 0.5  # seconds that a lock whose holder cannot be told is asked for again


@dataclass(frozen=True)
class ProcessId:
    """A process, told from a later one with the same pid by its start time and the boot it belongs to."""

    pid: int
    start: str
    boot: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has `pid` now; None where there is none, or the system does not tell its start."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else cls(pid, fields[19], boot_id())

    @classmethod
    def from_json(cls, value: Any) -> Self | None:
        """The process that a signature names; None where it names none."""
        if not isinstance(value, dict) or not isinstance(value.get("pid"), int):
            return None
        return cls(value["pid"], str(value.get("start", "")), str(value.get("boot", "")))

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return ProcessId.of(self.pid) == self


def boot_id() -> str:
    """What tells this boot of the machine from others; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class FolderLock:
    """The right to write into a folder; processes that inherit its descriptor share it."""

    def __init__(self, folder: Path, fd: int, made: list[Path]) -> None:
        self._folder, self.fd, self._made = folder, fd, made

    @classmethod
    def acquire(cls, folder: Path, run: str, run_dir: Path, setting: str = "output_dir") -> Self:
        """Takes the lock; raises BusyError that names the holder, InputError where the folder cannot be written."""
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            fd = _locked_file(folder)
        except BlockingIOError:
            raise busy(folder) from None
        except OSError as error:
            raise _unwritable(folder, error, setting) from None
        lock = cls(folder, fd, [folder / LOCK_NAME, *made] if made else [])
        try:
            lock.sign(os.getpid(), run, run_dir)
        except OSError as error:
            lock.abandon()
            raise _unwritable(folder, error, setting) from None
        return lock

    @classmethod
    def inherited(cls, folder: Path, fd: int) -> Self:
        """The lock that the process which started this one took and passed on."""
        made = read_json(folder / LOCK_NAME).get("made")
        return cls(folder, fd, [Path(path) for path in made] if isinstance(made, list) else [])

    def sign(self, pid: int, run: str, run_dir: Path) -> None:
        """Writes into the lock file who holds it; raises OSError."""
        process = ProcessId.of(pid) or ProcessId(pid, "", "")
        holder = {
            "run": run,
            "run_dir": str(run_dir.absolute()),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
            "pid": pid,
            "start": process.start,
            "boot": process.boot,
            "made": [str(path) for path in self._made],
        }
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, json.dumps(holder).encode(), 0)

    def release(self) -> None:
        """Gives this process's share back; the lock lasts while another process shares it."""
        os.close(self.fd)

    def abandon(self) -> None:
        """Gives the lock back and removes the folders that taking it made, where they are still empty."""
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, 0)  # where the file stays, it names nobody
            for path in self._made:
                path.rmdir() if path.is_dir() else path.unlink()
        self.release()


def _unwritable(folder: Path, error: OSError, setting: str) -> InputError:
    return InputError("folder_unwritable", path=str(folder), setting=setting, **why_unwritable(folder, error))


def _locked_file(folder: Path) -> int:
    """A locked descriptor of the lock file; raises BlockingIOError where another process has it."""
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            return _try_to_lock(folder)
        except (FileNotFoundError, BlockingIOError) as error:  # its holder gave it up, or somebody just looks at it
            if time.monotonic() > patience or (isinstance(error, BlockingIOError) and _signed_by_the_living(folder)):
                raise
        except FileExistsError:
            if folder.exists() or time.monotonic() > patience:
                raise
        time.sleep(PATIENCE / 100)


def _try_to_lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(fd), os.stat(path)):
            raise FileNotFoundError
    except OSError:
        os.close(fd)
        raise
    return fd


def _signed_by_the_living(folder: Path) -> bool:
    process = ProcessId.from_json(holder_of(folder))
    return process is not None and process.alive()


def holder_of(folder: Path) -> dict[str, Any]:
    """Who signed the lock of `folder` last, whether or not it is still held; {} where nobody did."""
    return read_json(folder / LOCK_NAME)


def is_locked(folder: Path) -> bool:
    """Whether some process holds the lock of `folder` now."""
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # others who ask at the same moment are no holders
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


def busy(folder: Path) -> BusyError:
    """The error that says who holds `folder`, since when, and at which step."""
    holder = holder_of(folder)
    run_dir = holder.get("run_dir")
    step = last_step(Path(run_dir) / "events.jsonl") if isinstance(run_dir, str) else 0
    saved = OutputDir(folder).checkpoint_steps()
    place = f", at step {step}" if step else f", last checkpoint at step {saved[0]}" if saved else ""
    place_zh = f"，在第 {step} 步" if step else f"，最新检查点在第 {saved[0]} 步" if saved else ""
    pid = holder["pid"] if isinstance(holder.get("pid"), int) else "?"
    run = str(holder.get("run", "?"))
    since = holder.get("since", "?")
    who, who_zh = f"{run} (pid {pid}, since {since}{place})", f"{run}（pid {pid}，始于 {since}{place_zh}）"
    return BusyError("busy", path=str(folder), holder=who, holder_zh=who_zh, run=run)
