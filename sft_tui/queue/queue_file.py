"""The file of a queue: read by anybody at any time, changed by one process after another, never half written."""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.contract.bounds import as_json, read_as
from engine.contract.durable import write_json
from engine.contract.files import open_regular, read_whole, reason, require_own_folder, why_unwritable
from engine.contract.locks import is_locked
from engine.contract.messages import InputError, Message
from sft_tui.queue import entries
from sft_tui.queue.entries import Queue

MACHINE = Path("/etc/machine-id")
PATIENCE = 10.0  # seconds for another change, which takes milliseconds
DAMAGED = "damaged"
NUMBER_BYTES = 15  # of the number of the next entry


@dataclass
class Change:
    """A change of the queue, under its lock: `queue` is written if it differs at the end."""

    queue: Queue


class QueueFolder:
    """`logs/queue/`: the queue of the runs in a folder of logs."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.path = logs, logs / "queue"

    @property
    def file(self) -> Path:
        """The queue itself."""
        return self.path / "queue.json"

    @property
    def output(self) -> Path:
        """Standard output and error of its process."""
        return self.path / "queue.log"

    @property
    def runs(self) -> bool:
        """Whether its process is alive."""
        return is_locked(self.path)

    def read(self) -> Queue:
        """The queue as it is now; empty if there is none. Raises InputError if it cannot be read.

        One that was written elsewhere is paused, so that nothing of it starts by itself.
        """
        try:
            found = read_as(Queue, json.loads(read_whole(self.file)))
        except FileNotFoundError:
            return Queue(place=self._here())
        except OSError as error:
            raise InputError("queue_unreadable", path=str(self.file), why=reason(error)) from None
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InputError("queue_damaged", path=str(self.file), why=str(error)[:200]) from None
        if found.place != self._here() and (found.waiting or found.active):
            found = entries.with_pause(found, Message.of("queue_from_elsewhere", path=str(self.file)))
        return found

    def look(self) -> tuple[Queue, list[Message]]:
        """The queue, and what is wrong with it: that it cannot be read, or that a damaged one was kept."""
        wrong = [Message.of("queue_kept", path=str(path)) for path in self._kept()]
        try:
            return self.read(), wrong
        except InputError as error:
            return Queue(), [error.message, *wrong]

    def _here(self) -> str:
        """What distinguishes this folder, user and machine from those that a queue may have been copied from."""
        with contextlib.suppress(OSError):
            machine = MACHINE.read_text()
            return hashlib.sha256(f"{machine}{os.getuid()}{os.path.realpath(self.path)}".encode()).hexdigest()
        return f"{os.getuid()}:{os.path.realpath(self.path)}"

    def _kept(self) -> list[Path]:
        """The damaged files that were kept aside."""
        with contextlib.suppress(OSError):
            return sorted(path for path in self.path.iterdir() if path.name.startswith(f"queue-{DAMAGED}-"))
        return []

    @contextlib.contextmanager
    def changing(self) -> Iterator[Change]:
        """Changes the queue under its lock; raises InputError. A damaged file is kept aside, and the queue is empty."""
        with self._locked() as lock:
            try:
                before = self.read()
            except InputError as error:
                if error.message.code != "queue_damaged":
                    raise
                self._keep_aside()
                before = Queue(place="", following=_read_number(lock))
            change = Change(replace(before, place=self._here()))
            yield change
            if change.queue != before:
                _write_number(lock, change.queue.following)
                self._write(change.queue)

    def change(self, function: Callable[..., Queue], *args: Any, **how: Any) -> Queue:
        """Applies a function of the queue to it; raises InputError, also if the function does."""
        with self.changing() as change:
            change.queue = function(change.queue, *args, **how)
        return change.queue

    def add(self, preset: str, values: Mapping[str, Any], based_on: str = "") -> int:
        """Puts a run at the end; returns its number. Raises InputError."""
        more = {"based_on": based_on, "project": os.getcwd(), "now": time.time()}
        return self.change(entries.added, preset, values, **more).following - 1

    def _keep_aside(self) -> None:
        taken = {path.name for path in self._kept()}
        name = next(name for number in range(1, 10**6) if (name := f"queue-{DAMAGED}-{number}.json") not in taken)
        try:
            self.file.rename(self.path / name)
        except OSError as error:
            raise InputError("queue_unreadable", path=str(self.file), why=reason(error)) from None

    def _write(self, queue: Queue) -> None:
        try:
            write_json(self.file, as_json(queue))
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> InputError:
        why = why_unwritable(self.path, error)
        return InputError("folder_unwritable", path=str(self.path), setting="logs", why=why)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """The right to change the file, for a moment: the descriptor of the lock."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            require_own_folder(self.path)
            fd = open_regular(self.path / "changes.lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._unwritable(error) from None
        try:
            deadline = time.monotonic() + PATIENCE
            while not _try_lock(fd):
                if time.monotonic() > deadline:
                    raise InputError("queue_busy", path=str(self.path))
                time.sleep(0.01)
            yield fd
        finally:
            os.close(fd)


def _read_number(lock: int) -> int:
    """The number of the next entry, which the file of the lock holds as well: a damaged queue has lost it."""
    digits = os.pread(lock, NUMBER_BYTES, 0).strip()
    return max(1, int(digits)) if digits.isdigit() else 1


def _write_number(lock: int, number: int) -> None:
    with contextlib.suppress(OSError):  # without it, the numbers begin with 1 after damage
        os.pwrite(lock, b"%-*d" % (NUMBER_BYTES, number), 0)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
