"""The folder of a run: its record, its stream, its logs, and what is asked of it."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from engine.contract.bounds import as_json, read_as
from engine.contract.durable import write_json
from engine.contract.files import (
    STAGED_NAME,
    matching,
    named,
    open_regular,
    read_whole,
    require_own_folder,
    unreadable,
    why_unwritable,
)
from engine.contract.messages import InputError
from engine.contract.outputdir import OutputDir
from engine.contract.project import is_here, kept_in, seen_from
from engine.contract.record import RunRecord

EVENTS_NAME = re.compile(r"events-rank\d{1,4}\.jsonl")
STACKS_NAME = re.compile(r"stacks-rank\d{1,4}\.txt")
ROWS_NAME = re.compile(r"rows-rank(\d{1,4})\.jsonl")


@dataclass(frozen=True)
class RunDir:
    """`logs/<run>/`: what a run writes about itself."""

    path: Path

    @property
    def events(self) -> Path:
        """The log stream."""
        return self.path / "events.jsonl"

    def events_of(self, rank: int) -> Path:
        """The log stream of a rank that has one of its own: several machines cannot append to one file."""
        return self.path / f"events-rank{rank}.jsonl"

    def other_events(self) -> list[Path]:
        """The streams of ranks that have one of their own, in order of rank."""
        return sorted(matching(self.path, EVENTS_NAME), key=lambda path: (len(path.name), path.name))

    def all_events(self) -> list[Path]:
        """The streams of all ranks, that of the run first."""
        return [self.events, *self.other_events()]

    @property
    def plain_log(self) -> Path:
        """The run's lines as text, next to the folder: `logs/<run>.log`."""
        folder = self.path.absolute()
        return folder.with_name(f"{folder.name}.log")

    @property
    def record(self) -> Path:
        """The RunRecord."""
        return self.path / "run.json"

    @property
    def stop_request(self) -> Path:
        """The file whose existence asks the run to save and end."""
        return self.path / "control" / "stop"

    @property
    def now_request(self) -> Path:
        """The file whose existence asks the supervisor to end the run at once."""
        return self.path / "control" / "now"

    @property
    def trainer_output(self) -> Path:
        """Standard output and error of the trainer's processes."""
        return self.path / "trainer.log"

    @property
    def supervisor_output(self) -> Path:
        """Standard output and error of the supervisor."""
        return self.path / "supervisor.log"

    @property
    def batch_script(self) -> Path:
        """The batch script of a run that Slurm starts."""
        return self.path / "job.sbatch"

    @property
    def processes(self) -> Path:
        """The processes of the newest attempt, as JSON: {attempt, supervisor, ranks}."""
        return self.path / "processes.json"

    @property
    def snapshot(self) -> Path:
        """A summary of the stream up to some offset, so that nobody must read it from the start."""
        return self.path / "snapshot.json"

    @property
    def note(self) -> Path:
        """What the user has noted about the run, as JSON."""
        return self.path / "note.json"

    @property
    def blind(self) -> Path:
        """The user's blind judgements of the run's replies, as JSON."""
        return self.path / "blind.json"

    def stacks(self, rank: int) -> Path:
        """Where a rank writes its stacks on request."""
        return self.path / f"stacks-rank{rank}.txt"

    def row_losses_of(self, rank: int) -> Path:
        """Where a rank keeps the losses of the rows that it computed."""
        return self.path / f"rows-rank{rank}.jsonl"

    def row_losses(self) -> dict[int, Path]:
        """Those files of all ranks that have one, by rank."""
        found = (ROWS_NAME.fullmatch(path.name) for path in matching(self.path, ROWS_NAME))
        return {int(name[1]): self.path / name[0] for name in found if name}

    def files(self) -> Iterator[Path]:
        """Every file that the run wrote and that still exists, its record last; links are not followed."""
        if self.plain_log.is_file() and not self.plain_log.is_symlink():
            yield self.plain_log
        yield from named(self.stop_request.parent, [self.stop_request.name, self.now_request.name])
        yield from matching(self.path, EVENTS_NAME)
        yield from matching(self.path, STACKS_NAME)
        yield from matching(self.path, ROWS_NAME)
        yield from matching(self.path, STAGED_NAME)
        logs = (self.trainer_output, self.supervisor_output)
        known = (self.events, self.snapshot, self.processes, *logs, self.batch_script)
        yield from named(self.path, [path.name for path in (*known, self.note, self.blind, self.record)])

    def write_record(self, record: RunRecord) -> None:
        """Writes `run.json` atomically, with paths relative to the run's project."""
        home = os.path.relpath(record.project, self.path.absolute()) if record.project else ""
        write_json(self.record, as_json(replace(record, project=home, config=kept_in(record.project, record.config))))

    def read_record(self) -> RunRecord:
        """The record, with paths relative to the current folder; raises InputError if it is missing or invalid."""
        try:
            return self._seen_from_here(read_as(RunRecord, json.loads(read_whole(self.record))))
        except (FileNotFoundError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InputError("run_record_bad", path=str(self.record), why=str(error)) from None
        except OSError as error:
            raise unreadable(self.record, error) from None

    def _seen_from_here(self, record: RunRecord) -> RunRecord:
        """The record of a run of another project, with its paths as seen from the current folder.

        If the record predates projects, or if its logs are reached by another path, the project is the one whose output
        folder belongs to the run.
        """
        home = os.path.normpath(self.path.absolute() / (record.project or "../.."))
        if is_here(home):
            return replace(record, project=home if record.project else "")
        there = replace(record, project=home, config=seen_from(home, record.config))
        relative = record.output.path != there.output.path
        if relative and record.output.is_of(record.run, record.id):
            return replace(record, project="")
        known = record.project or (relative and there.output.is_of(record.run, record.id))
        return there if known else record

    def belongs_to(self, id: object) -> bool:
        """Whether the record in this folder is that of the run with this id."""
        try:
            return bool(id) and self.read_record().id == id
        except InputError:
            return False

    @classmethod
    def of(cls, output: OutputDir) -> Self | None:
        """The folder of the run that an output folder's contents belong to; None if nothing proves it.

        A copied or downloaded owner file can name any folder. That folder counts if its record has the same id, which
        only these two have; for contents that predate ids, if its record names the output folder.
        """
        return next((one for one in map(cls, output.possible_run_dirs()) if one.made(output)), None)

    def made(self, output: OutputDir) -> bool:
        """Whether this run and an output folder name each other, by id or, if they predate ids, by path."""
        owner = output.owner()
        try:
            record = self.read_record()
        except InputError:
            return False
        if owner.id:
            return record.id == owner.id
        return output.is_of(record.run, record.id) and record.output.path.resolve() == output.path.resolve()

    def request_stop(self, why: str = "stop") -> None:
        """Asks the trainer to save and end at the next step; `why` is stop, or pause; raises OSError.

        The file's existence is the request, and an empty file means stop: on a full disk a file can often be created
        but not written to.
        """
        fd = self._requested(self.stop_request)
        try:
            os.write(fd, why.encode())
        except OSError:
            if why != "stop":
                raise
        finally:
            os.close(fd)

    def stop_requested(self) -> str:
        """What was requested: stop, pause, or an empty string."""
        try:
            return "pause" if read_whole(self.stop_request) == b"pause" else "stop"
        except FileNotFoundError:
            return ""
        except OSError:
            return "stop"

    def request_now(self) -> None:
        """Asks the supervisor to end the run without saving."""
        os.close(self._requested(self.now_request))

    def _requested(self, path: Path) -> int:
        """A descriptor of a request file, empty and with the current time; raises OSError."""
        path.parent.mkdir(exist_ok=True)
        require_own_folder(path.parent)
        fd = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.utime(fd)
        return fd

    def clear_requests(self) -> None:
        """Removes the requests made of an earlier attempt; raises OSError."""
        require_own_folder(self.stop_request.parent)
        self.stop_request.unlink(missing_ok=True)
        self.now_request.unlink(missing_ok=True)


def create_run_dir(logs: Path, preset: str) -> RunDir:
    """A new folder `logs/<preset>-<number>`; two callers never get the same one; raises InputError.

    The number is above that of every folder and every plain log, which a user may have kept from a deleted run.
    """
    try:
        logs.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_number(entry.name, preset) for entry in logs.iterdir()), default=0)
        while True:
            try:
                (logs / f"{preset}-{number}").mkdir()
                return RunDir(logs / f"{preset}-{number}")
            except FileExistsError:
                number += 1
    except OSError as error:
        raise InputError("folder_unwritable", path=str(logs), setting="logs", why=why_unwritable(logs, error)) from None


def _number(name: str, preset: str) -> int:
    found = re.fullmatch(re.escape(preset) + r"-(\d{1,9})(?:\.log)?", name)
    return int(found[1]) if found else 0
