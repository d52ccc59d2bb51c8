"""The process of a queue, in its own session: `python -m sft_tui.queue.runner LOGS`.

It checks and starts one run after another and ends when nothing is left to do. It may be killed at any instant: what
it is about to do is written before it does it, and the next process of the queue finds out what became of it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.contract.config import override
from engine.contract.files import reason
from engine.contract.locks import FolderLock, holder_of, is_locked
from engine.contract.messages import BusyError, InputError, Message
from engine.contract.owner import new_id
from engine.contract.presets import preset
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stream import next_attempt
from sft_tui import removal, runs, starting
from sft_tui.output import echo
from sft_tui.preflight.check import check
from sft_tui.preflight.request import CheckRequest
from sft_tui.queue import entries
from sft_tui.queue.entries import MOST_TRIES, Entry
from sft_tui.queue.queue_file import QueueFolder

TICK_SECONDS = 0.5
END_SECONDS = 5.0  # for the end of a run to be written by another process that found it dead
RETRY_SECONDS, RETRIES = 10.0, 6 * 360  # for six hours: a full disk must not end what runs at night
PASSING = ("folder_unwritable", "queue_busy")  # why the queue's file could not be changed, but may be later
BY_A_PERSON = ("stopped", "paused", "terminated")  # ends that somebody asked for


class Runner:
    """One process of a queue."""

    def __init__(self, folder: QueueFolder, lock: FolderLock) -> None:
        self.folder, self._lock = folder, lock
        self._children: list[subprocess.Popen[bytes]] = []  # the supervisors started here, until they end

    def run(self) -> None:
        """Works until nothing is left to do; what cannot be written is tried again, as the next process would."""
        tries = 0
        while True:
            try:
                entry = self._next()
                if entry is None:
                    return
                self._work_on(entry)
                tries = 0
            except InputError as error:
                tries += 1
                if error.message.code not in PASSING or tries > RETRIES:
                    raise
                time.sleep(RETRY_SECONDS)

    def _work_on(self, entry: Entry) -> None:
        with contextlib.suppress(OSError):
            os.chdir(entry.project or ".")
        match entry.state:
            case "starting":
                self._settle(entry)
            case "running":
                self._follow(entry)
            case _:
                self._begin(entry)

    def _next(self) -> Entry | None:
        """The entry whose turn it is. If there is none, the lock is released before anybody can add another."""
        with self.folder.changing() as change:
            if not self._is_ours():
                return None
            for one in change.queue.entries:
                if one.state == "done" and one.ended in BY_A_PERSON and self._is_alive(one.run):  # it was resumed
                    change.queue = entries.changed(change.queue, one.number, state="running", ended="")
            change.queue, entry = entries.taken(change.queue)
            if entry is None:
                self._lock.abandon()
            return entry

    def _is_ours(self) -> bool:
        """Whether no other process works on the queue; if the lock's file was removed, the lock is taken again."""
        return self._lock.hold() and holder_of(self.folder.path).pid in (0, os.getpid())  # unsigned on a full disk

    def _set(self, number: int, **values: Any) -> None:
        self.folder.change(entries.changed, number, **values)

    def _begin(self, entry: Entry) -> None:
        """Checks an entry and starts its run; one that cannot run is refused with the reason."""
        try:
            record = self._checked(entry)
            if not self._is_still_wanted(entry, record.id):
                return
            started = starting.start(self._logs(), record)
        except InputError as error:
            self._set(entry.number, state="refused", message=error.message, run_id="")
            return
        except Exception as error:  # a fault of this program in one entry must not keep the others from running
            traceback.print_exc()
            message = Message.of("queue_failed", why=type(error).__name__, path=str(self.folder.output))
            self._set(entry.number, state="refused", message=message, run_id="")
            return
        self._children.append(started.supervisor)
        self._set(entry.number, state="running", run=started.record.run)  # if this fails, a successor finds the run

    def _checked(self, entry: Entry) -> RunRecord:
        """The record of its run; raises InputError if its folder cannot be entered or the check finds an error."""
        if entry.project:
            try:
                os.chdir(entry.project)
            except OSError as error:
                raise InputError("queue_no_folder", path=entry.project, why=reason(error)) from None
        values = dict(entry.values)
        config, _ = override(preset(entry.preset).config, values)
        request = CheckRequest.of(entry.preset, values, config, self._logs())
        if request.rehearsal is not None and request.config != request.asked:
            values["micro_batch_tokens"] = request.config.micro_batch_tokens
        # What a person at a terminal is asked first, an unfinished run in the folder for instance, is refused here.
        record = starting.plan_run(entry.preset, values, based_on=entry.based_on)
        report = check(request)
        if report.exit_code:
            first = next(finding for finding in report.findings if finding.level == "error")
            raise InputError("queue_check", errors=report.count("error"), found=first.what(), found_zh=first.what("zh"))
        return replace(record, id=new_id())

    def _is_still_wanted(self, entry: Entry, run_id: str) -> bool:
        """Writes that it is being started, unless it was removed or the queue paused while it was checked."""
        with self.folder.changing() as change:
            now = next((one for one in change.queue.entries if one.number == entry.number), None)
            if now is None or now.state != "checking":
                return False
            if change.queue.paused or change.queue.waiting[0].number != entry.number:
                change.queue = entries.changed(change.queue, entry.number, state="waiting")
                return False
            change.queue = entries.changed(
                change.queue, entry.number, state="starting", run_id=run_id, tries=entry.tries + 1
            )
        return True

    def _settle(self, entry: Entry) -> None:
        """Finds out what became of an entry that the last process of the queue was starting when it was killed."""
        found = self._run_with(entry.run_id)
        if found is None:
            self._set(entry.number, state="waiting", run_id="")
        elif entry.tries >= MOST_TRIES or self._is_alive(found.path.name) or next_attempt(found.events) > 1:
            self._set(entry.number, state="running", run=found.path.name)
        else:  # its folder was made, and no process of it has ever written anything
            with contextlib.suppress(OSError):
                removal.discard(found, 1)
            self._set(entry.number, state="waiting", run_id="")

    def _run_with(self, run_id: str) -> RunDir | None:
        return next((one for name in runs.names(self.folder.logs) if (one := self._dir(name)).belongs_to(run_id)), None)

    def _follow(self, entry: Entry) -> None:
        """Waits for the end of a run; if somebody stopped it, the queue is paused."""
        while self._is_alive(entry.run):
            self._lock.hold()  # in case its file was removed
            time.sleep(TICK_SECONDS)
        try:
            ended = self._end_of(entry.run)
        except InputError as error:
            self._set(entry.number, state="done", message=error.message)
            return
        with self.folder.changing() as change:
            change.queue = entries.changed(change.queue, entry.number, state="done", ended=ended)
            if ended in BY_A_PERSON:
                change.queue = entries.with_pause(change.queue, Message.of("queue_run_stopped", run=entry.run))

    def _end_of(self, name: str) -> str:
        """How a run that is over ended, in a word; raises InputError, also if that is not known."""
        deadline = time.monotonic() + END_SECONDS
        while (end := runs.read_run(self._dir(name)).state.ended) is None:  # another process may be writing it
            if time.monotonic() > deadline:
                raise InputError("queue_no_end", run=name)
            time.sleep(TICK_SECONDS)
        return end.reason

    def _is_alive(self, name: str) -> bool:
        """Whether a run is alive; ended supervisors are reaped."""
        self._children = [child for child in self._children if child.poll() is None]
        run_dir = self._dir(name)
        try:
            return bool(name) and runs.is_alive(run_dir, run_dir.read_record())
        except InputError:  # its lock says it as well
            return is_locked(run_dir.path)

    def _dir(self, name: str) -> RunDir:
        return RunDir(self.folder.logs / Path(name).name)

    def _logs(self) -> Path:
        """The folder of logs as the commands of its runs name it: relative if it is below the current folder."""
        near = Path(os.path.relpath(self.folder.logs))
        return self.folder.logs if near.parts[:1] == ("..",) else near


def main(logs: Path) -> int:
    """Works through the queue of a folder of logs; returns 0 at its end, also if another process does it already."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    folder = QueueFolder(logs.absolute())
    try:
        lock = FolderLock.acquire(folder.path, "queue", folder.path, "logs")
    except BusyError:
        return 0
    Runner(folder, lock).run()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1])))
    except InputError as fault:
        echo(str(fault), err=True)
        sys.exit(fault.exit_code)
