"""Locks of folders: a flock that ends with the last process sharing it, signed by its holder.

Nothing here breaks a lock. The kernel releases a flock when the last process that inherited it is dead, and not
before; the signature (pid, start time of that process, boot of the machine) shows people who holds it.
"""

import contextlib
import errno
import fcntl
import json
import os
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from engine.contract.bounds import PathText, as_json
from engine.contract.durable import read_json_as
from engine.contract.files import FOREIGN, open_regular, why_unwritable
from engine.contract.merged_stream import newest_has_ended
from engine.contract.messages import BusyError, InputError
from engine.contract.outputdir import OutputDir
from engine.contract.processes import Pid, ProcessId, boot_id, host_name, parent_of, read_processes
from engine.contract.rundir import RunDir
from engine.contract.stream import last_step
from engine.contract.texts import Phrase

LOCK_NAME = ".lock"
SIGNED = b'{"run": '  # prefix of a lock file's content
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP)  # of a file system without flock, such as Lustre's unless it is asked for
# A run on another machine counts as alive for so long after what was last seen of it: a network file system writes up
# to 35 s late. A job that Slurm queues again begins 120 s later.
ALIVE_SECONDS = 90.0
GROW_SECONDS = 40.0  # for which its stream is watched before its folder is taken over; a rank beats every two
# A lock is tried so often while its holder cannot be determined. Tries are counted, not time: a holder that stood still
# together with this process is not given up for that.
TRIES, PAUSE_SECONDS = 100, 0.005


@dataclass(frozen=True)
class Holder:
    """Who signed a lock: the run, its folder (absolute), since when, and the process. Empty if nobody did."""

    run: str = ""
    run_dir: PathText = ""
    since: str = ""
    pid: Pid = 0
    start: str = ""
    boot: str = ""
    host: str = ""  # the name of its machine; older ones have none

    @property
    def process(self) -> ProcessId:
        """The process that signed."""
        return ProcessId(self.pid, self.start, self.boot)

    @property
    def elsewhere(self) -> bool:
        """Whether it signed on another machine; one that restarted has its name, and a container its boot."""
        return self.host not in ("", host_name()) and self.boot != boot_id()


class FolderLock:
    """The right to write into a folder; processes that inherit its descriptor share it."""

    def __init__(self, folder: Path, fd: int, made: int, run: str, run_dir: Path) -> None:
        self.folder, self.fd, self.made = folder, fd, made
        self._run, self._run_dir = run, run_dir

    @classmethod
    def acquire(cls, folder: Path, run: str, run_dir: Path, setting: str = "output_dir") -> Self:
        """Takes the lock; raises BusyError naming the holder, InputError if the folder cannot be written."""
        made = sum(not path.exists() for path in (folder, *folder.parents))
        lock = cls._taken(folder, made, run, run_dir, setting)
        if (elsewhere := _in_use_elsewhere(folder, run_dir)) is not None:
            lock.release()  # the signature remains theirs
            raise elsewhere
        try:
            alive = _in_use_without_lock(folder)
            if alive is not None:
                raise alive
            lock.sign(os.getpid(), run, run_dir)
        except InputError:
            lock.abandon()
            raise
        except OSError as error:
            lock.abandon()
            raise unwritable(folder, error, setting) from None
        return lock

    @classmethod
    def inherited(cls, folder: Path, fd: int, run: str, run_dir: Path, made: int = 0) -> Self:
        """The lock that the parent process took and passed on; `made`: how many folders were created for it."""
        return cls(folder, fd, made, run, run_dir)

    @classmethod
    def borrowed(cls, folder: Path, run: str, run_dir: Path) -> Self:
        """A brief, unsigned lock of an existing folder whose holder was another process, now dead.

        Raises InputError, also if the folder is gone.
        """
        if not folder.is_dir():
            raise unwritable(folder, FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), "logs")
        return cls._taken(folder, 0, run, run_dir, "logs")

    @classmethod
    def _taken(cls, folder: Path, made: int, run: str, run_dir: Path, setting: str) -> Self:
        try:
            return cls(folder, _locked_file(folder), made, run, run_dir)
        except BlockingIOError:
            raise busy(folder) from None
        except OSError as error:
            raise unwritable(folder, error, setting) from None

    def sign(self, pid: int, run: str, run_dir: Path) -> None:
        """Writes the lock's holder into the lock file; raises OSError, also if the file is somebody else's."""
        self._run, self._run_dir = run, run_dir
        process = ProcessId.of(pid) or ProcessId(pid)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = Holder(run, str(run_dir.absolute()), since, pid, process.start, process.boot, host_name())
        if not _is_ours(os.pread(self.fd, len(SIGNED), 0)):
            raise OSError(errno.EEXIST, FOREIGN, LOCK_NAME)
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, json.dumps(as_json(holder)).encode(), 0)

    def hold(self) -> bool:
        """Whether this is still the lock of its folder; if its file was removed, the lock is taken again.

        False if a process of another run has taken it: nothing more must be written.
        """
        try:
            if self._is_in_place() or not self.folder.is_dir():
                return True
            fd = _locked_file(self.folder)
        except BlockingIOError:
            return _is_this_attempt(holder_of(self.folder), self._run_dir)
        except OSError:  # if we cannot lock, nobody can
            return True
        os.dup2(fd, self.fd, inheritable=os.get_inheritable(self.fd))
        os.close(fd)
        with contextlib.suppress(OSError):  # a full disk
            self.sign(os.getpid(), self._run, self._run_dir)
        return True

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fd), os.lstat(self.folder / LOCK_NAME))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Releases this process's share; the lock lasts while another process shares it."""
        os.close(self.fd)

    def abandon(self) -> None:
        """Releases the lock and removes the folders created to take it, if they are still empty."""
        with contextlib.suppress(OSError):
            if _is_ours(os.pread(self.fd, len(SIGNED), 0)):
                os.ftruncate(self.fd, 0)  # if the file stays, it names nobody
            if self.made:
                self._unlink()
            for path in (self.folder, *self.folder.parents)[: self.made]:
                path.rmdir()
        self.release()

    def remove(self) -> None:
        """Removes the lock file, and the folder if nothing else is left in it, and releases the lock.

        A process waiting for the lock then finds that its locked file is no longer the folder's, and tries again.
        """
        with contextlib.suppress(OSError):
            self._unlink()
            self.folder.rmdir()
        self.release()

    def _unlink(self) -> None:
        if self._is_in_place():
            (self.folder / LOCK_NAME).unlink()


def _is_ours(content: bytes) -> bool:
    """Whether a lock file may be overwritten: it is empty, or signed, or lost its content in a power failure."""
    begun = content.strip(b"\0")
    return SIGNED.startswith(begun) or begun.startswith(SIGNED)


def _is_this_attempt(holder: Holder, run_dir: Path) -> bool:
    """Whether the signer of a lock is the supervisor or another process of this very attempt."""
    if holder.run_dir != str(run_dir.absolute()) or not holder.pid or holder.boot != boot_id():
        return False
    return holder.pid in (os.getpid(), os.getppid()) or parent_of(holder.pid) in (os.getpid(), os.getppid())


def _in_use_elsewhere(folder: Path, own: Path) -> BusyError | None:
    """The error for a folder whose lock this machine cannot see, while a run on another writes; None if none does.

    What grows in this process's `own` run, once it has the lock of that, it writes itself.
    """
    holder = holder_of(folder)
    run_dir = RunDir(Path(holder.run_dir))
    if not holder.run_dir or not lives_elsewhere(run_dir, holder):
        return None
    if folder != own and holder.run_dir == str(own.absolute()) and holder_of(own).process == ProcessId.of(os.getpid()):
        return None
    with contextlib.suppress(InputError):  # of a stream that cannot be read
        if newest_has_ended(run_dir):
            return None
    return busy(folder, holder) if _grows(run_dir) else None


def _grows(run_dir: RunDir) -> bool:
    """Whether a run's streams grow while this process looks."""
    before, until = _sizes(run_dir), time.monotonic() + GROW_SECONDS
    while _sizes(run_dir) == before:
        if time.monotonic() > until:
            return False
        time.sleep(1.0)
    return True


def _sizes(run_dir: RunDir) -> list[int]:
    """The bytes of a run's streams, which are opened: a network file system looks at a file when it is."""
    found = []
    for path in run_dir.all_events():
        with contextlib.suppress(OSError):
            fd = open_regular(path)
            found.append(os.fstat(fd).st_size)
            os.close(fd)
    return found


def lives_elsewhere(run_dir: RunDir, holder: Holder) -> bool:
    """Whether the holder is on another machine and its run still writes; a mount may keep locks to its machine."""
    if not holder.elsewhere:
        return False
    newest = 0.0
    for path in (run_dir.path / LOCK_NAME, *run_dir.all_events()):
        with contextlib.suppress(OSError):
            newest = max(newest, path.lstat().st_mtime)
    return abs(time.time() - newest) < ALIVE_SECONDS


def _in_use_without_lock(folder: Path) -> BusyError | None:
    """The error for a folder whose lock file was removed while a run is using it; None if no run is."""
    output = OutputDir(folder)
    theirs = RunDir.of(output)
    if theirs is None or not output.was_written_here():  # nobody uses a copy of the folder
        return None
    written = read_processes(theirs)
    signed = holder_of(theirs.path) if is_locked(theirs.path) else Holder()
    for process in (signed.process, written.supervisor, *written.ranks):
        if process.pid != os.getpid() and process.alive():
            return busy(folder, replace(signed, run=theirs.path.name, run_dir=str(theirs.path), pid=process.pid))
    return None


def unwritable(folder: Path, error: OSError, setting: str) -> InputError:
    """The error for a folder of the setting that could not be locked or written."""
    if error.errno in NO_LOCKS:
        return InputError("folder_unlockable", path=str(folder), setting=setting)
    return InputError("folder_unwritable", path=str(folder), setting=setting, why=why_unwritable(folder, error))


def _locked_file(folder: Path) -> int:
    """A locked descriptor of the lock file; raises BlockingIOError if another process has it."""
    for _ in range(TRIES):
        try:
            return _try_to_lock(folder)
        except (FileNotFoundError, BlockingIOError) as error:  # its holder released it, or another process checks it
            if isinstance(error, BlockingIOError) and _holder_is_alive(folder):
                raise
        except FileExistsError:
            if folder.exists():
                raise
        time.sleep(PAUSE_SECONDS)
    return _try_to_lock(folder)


def _try_to_lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK_NAME
    fd = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(fd), os.lstat(path)):
            raise FileNotFoundError
    except OSError:
        os.close(fd)
        raise
    return fd


def _holder_is_alive(folder: Path) -> bool:
    return holder_of(folder).process.alive()


def holder_of(folder: Path) -> Holder:
    """The last signer of the lock of `folder`, whether or not it is still held; an empty Holder if there is none."""
    return read_json_as(Holder, folder / LOCK_NAME)


def is_locked(folder: Path) -> bool:
    """Whether any process holds the lock of `folder` now."""
    return is_held(folder / LOCK_NAME)


def is_held(path: Path) -> bool:
    """Whether any process holds the lock of a file now; nobody can where the file system has no locks."""
    try:
        fd = open_regular(path)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # processes checking at the same moment are not holders
        return False
    except OSError as error:
        return error.errno not in NO_LOCKS
    finally:
        os.close(fd)


def shares_lock(process: ProcessId, folder: Path) -> bool:
    """Whether a live process has the lock of `folder`, even one whose file has since been removed.

    What a file says about a process proves nothing, as others may have written it; this comes from the kernel.
    """
    lock, fds = str(folder.resolve() / LOCK_NAME), Path(f"/proc/{process.pid}/fd")
    with contextlib.suppress(OSError):
        for fd in os.listdir(fds):
            with contextlib.suppress(OSError):  # closed in the meantime
                if os.readlink(fds / fd).removesuffix(" (deleted)") == lock:
                    locked = Path(f"/proc/{process.pid}/fdinfo/{fd}").read_text()
                    if re.search(r"^lock:.*FLOCK.*WRITE", locked, re.MULTILINE):  # checkers have a shared one
                        return True
    return False


def busy(folder: Path, holder: Holder | None = None) -> BusyError:
    """The error that says who holds `folder`, since when, and at which step; `holder` is the signer of its lock."""
    holder = holder_of(folder) if holder is None else holder
    step = _step_of(Path(holder.run_dir)) if holder.run_dir else 0
    saved = OutputDir(folder).checkpoint_steps()
    at = saved[0] if saved and not step else step
    place = Phrase.of(f"holder.{'at' if step else 'saved'}", step=at) if at else ""
    pid, run, since = holder.pid or "?", holder.run or "?", holder.since or "?"
    elsewhere = holder.host and (holder.host, holder.boot) != (host_name(), boot_id())
    on = Phrase.of("holder.on", host=holder.host) if elsewhere else ""
    who = Phrase.of("holder.run", run=run, pid=pid, on=on, since=since, place=place)
    return BusyError("busy", path=str(folder), holder=who, run=run)


def _step_of(run_dir: Path) -> int:
    try:
        return last_step(run_dir / "events.jsonl")
    except (InputError, ValueError):
        return 0
