"""Shared by every job of the engine: its world, its events and its phases, requests to stop, and its last event."""

import functools
import hashlib
import importlib.metadata
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, TypeVar

import psutil
import torch
import transformers

from engine.contract import certificate, events
from engine.contract.config import RunConfig, to_json
from engine.contract.durable import free_bytes
from engine.contract.events import Event
from engine.contract.messages import Message, Value
from engine.contract.outputdir import OutputDir
from engine.contract.record import RunRecord
from engine.contract.rundir import RunDir
from engine.contract.stop_signals import STOP_SIGNALS, FirstRequest
from engine.contract.stream import EventWriter
from engine.cpu import native
from engine.data.chat.settings import RowKind
from engine.data.fingerprints import fingerprint
from engine.data.parquet_rows import RowSource
from engine.data.references import Reference, references, rows_replied
from engine.data.token_store import TokenStore, is_stored, open_store, reopened
from engine.process.heartbeat import RankStatus
from engine.process.peers import PeerWatch
from engine.process.world import World

PHASE_PACE = 0.5  # minimum seconds between two events of one phase
SOURCES = ("*.py", "*.c", "*.h")
VERSIONS_OF = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "safetensors", "pyarrow", "sacrebleu")


T = TypeVar("T")


class EndError(Exception):
    """An unplanned end; carries the message about it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        super().__init__(message.text())


class StopAskedError(EndError):
    """The job was asked to stop."""


class DivergedError(EndError):
    """Loss or gradient is not finite; carries the evidence, and the settings that may fix it."""

    def __init__(self, message: Message, evidence: dict[str, str], apply: dict[str, Any]) -> None:
        super().__init__(message)
        self.evidence, self.apply = evidence, apply


class FolderLostError(EndError):
    """The output folder now belongs to another run: nothing more may be written."""


class UnpublishedError(EndError):
    """All steps are done, but no model could be published."""


class TerminatedError(BaseException):
    """The job was asked to stop a second time, and must end at once; `except Exception` does not catch this."""


class StopFlag:
    """Whether this rank was asked to stop: by a signal, the stop file in the run's folder, or its parent's death."""

    def __init__(self, run_dir: RunDir, status: RankStatus) -> None:
        self._run_dir, self._status = run_dir, status
        self._file = run_dir.stop_request
        self._asked: FirstRequest | None = None
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Requests a save and stop; a second signal, or one with the file that says now, ends the job at once.

        A stop file does not count as a first request: a machine that shuts down signals the supervisor, which writes
        that file, and the ranks at the same instant.
        """
        if self._run_dir.now_request.exists() or (self._asked and self._asked.repeated(self._status.progress)):
            raise TerminatedError
        self._asked = self._asked or FirstRequest(self._status.progress)

    def __call__(self) -> bool:
        return self._asked is not None or self._status.orphaned or self._file.exists()

    def by_file(self) -> bool:
        """Whether the stop file exists."""
        return self._file.exists()

    def since(self) -> float:
        """When a signal first asked (monotonic seconds); now if none has."""
        return self._asked.at if self._asked else time.monotonic()

    def reason(self) -> str:
        """The name of the end that was asked for."""
        if self._status.parent_died:
            return "orphaned"
        return "paused" if self._run_dir.stop_requested() == "pause" else "stopped"


class Job:
    """One attempt of a run, seen from one rank."""

    def __init__(
        self, run_dir: RunDir, record: RunRecord, world: World, log: EventWriter, peers: PeerWatch | None = None
    ) -> None:
        self.run_dir, self.record, self.world, self.log = run_dir, record, world, log
        self.peers = peers  # the watch over the ranks on other machines
        self.config: RunConfig = record.run_config()
        self.output = OutputDir(Path(self.config.output_dir))
        self.rank_status = world.rank_status
        self.stop_asked = StopFlag(run_dir, self.rank_status)
        self.step = 0  # optimizer steps done so far
        self._phase_at = 0.0

    @property
    def phase_name(self) -> str:
        """The phase this rank is in."""
        return self.rank_status.phase

    def emit(self, event: Event) -> None:
        """Writes `event`, on rank 0 only."""
        if self.world.is_main:
            self.log.write(event)

    def notice(self, message: Message | None) -> None:
        """Writes a notice, if there is one."""
        if message is not None:
            self.emit(events.Notice(message))

    def warn(self, message: Message) -> None:
        """Writes a warning."""
        self.emit(events.Warning(message))

    def phase(self, name: str, done: int = 0, total: int = 0) -> None:
        """Reports how far a phase is; raises StopAskedError if the job was asked to stop outside training."""
        changed, now = name != self.phase_name, time.monotonic()
        self.rank_status.phase = name
        self.rank_status.mark()
        if changed or done == total or now - self._phase_at >= PHASE_PACE:
            self._phase_at = now
            self.emit(events.Phase(name, done, total))
        if name not in ("training", "saving", "publishing") and self.stop_asked():
            raise StopAskedError(certificate.stopped_early(self.record, name, self.stop_asked.reason()))

    def source(self, setting: str, rows: RowKind) -> RowSource:
        """The data file of a setting, which must exist, read as the family of the model does; raises InputError."""
        return RowSource.of(self.config, setting, rows)

    def look_into(self, sources: list[RowSource], tokenizer: transformers.PreTrainedTokenizerBase) -> None:
        """Rejects files that cannot be read, before any of them is used; raises InputError."""
        for source in sources:
            if not is_stored(source, tokenizer, self.config.max_seq_len, Path(self.config.token_store)):
                source.open().close()

    def store(self, source: RowSource, tokenizer: transformers.PreTrainedTokenizerBase) -> TokenStore:
        """The token store of `source`, made by one rank of each machine; raises InputError."""

        where = (source, tokenizer, self.config.max_seq_len, Path(self.config.token_store))

        def build() -> TokenStore:
            return open_store(*where, partial(self.phase, "tokenizing"), partial(self.phase, "hashing"))

        built = self._on_each_machine(build)
        store = reopened(*where) if built is None else built
        for message in store.notices(source.path):
            self.notice(message)
        return store

    def _on_each_machine(self, work: Callable[[], T]) -> T | None:
        """Does `work` on one rank of each machine, on rank 0's first: the others may see what it writes."""
        world = self.world
        value = world.together(work, chosen=world.is_main)
        if len(world.machines) > 1:
            others = world.together(work, chosen=world.is_local_main and not world.is_main)
            value = others if value is None else value
        return value

    def references(self, source: RowSource, store: TokenStore) -> list[Reference]:
        """References for scoring replies to rows of `source`, read by one rank per machine; raises InputError."""

        def read() -> list[Reference]:
            return references(source, store, rows_replied(self.config, len(store)))

        self._on_each_machine(read)
        return read()  # from what that rank wrote to disk

    def started(self, sources: list[RowSource]) -> dict[str, str]:
        """Announces the attempt; returns the fingerprints of its data."""
        root = Path(self.config.token_store)
        progress = partial(self.phase, "hashing")  # in megabytes
        data = {source.setting: fingerprint(source.path, root, progress) for source in sources}
        if self.phase_name == "hashing":
            self.phase("loading")
        self.emit(
            events.RunStarted(
                run=self.record.run,
                preset=self.record.preset,
                job=self.record.job,
                config=to_json(self.config),
                overrides=self.record.overrides,
                versions=versions(),
                git_revision=git_revision(),
                data=data,
                world_size=self.world.size,
                device=self.world.device.type,
                memory_available=psutil.virtual_memory().available,
                disk_available=free_bytes(self.output.path),
            )
        )
        return data

    def end(
        self,
        reason: str,
        exit_code: int,
        message: Message,
        evidence: dict[str, str],
        apply: Mapping[str, Any] = MappingProxyType({}),
    ) -> int:
        """Writes the last event; returns the exit code. Later requests to stop are ignored."""
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self.emit(events.RunEnded(reason, exit_code, message, evidence, dict(apply)))
        return exit_code

    def options(self) -> dict[str, Value]:
        """The options for resuming this run or starting it over, for messages."""
        return {"resume_option": self.record.resume_option, "fresh_option": self.record.fresh_option}


def peak_memory() -> int:
    """The highest resident memory of this process so far, in bytes; 0 if the system does not report it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def versions() -> dict[str, str]:
    """Versions of everything that takes part in the arithmetic, and the number of threads it uses."""
    found = {name: importlib.metadata.version(name) for name in VERSIONS_OF}
    own = {"engine": _own_source(), "kernels": native.kind(), "threads": str(torch.get_num_threads())}
    return {"python": sys.version.split()[0], **found, **own}


@functools.cache
def _own_source() -> str:
    """The digest of the source that this process was started from, even if the files change while it runs."""
    return source_digest(Path(__file__).parents[1])


def source_digest(folder: Path) -> str:
    """Twelve hexadecimal digits that identify the source in `folder`."""
    whole = hashlib.sha256()
    for file in sorted(file for kind in SOURCES for file in folder.rglob(kind)):
        whole.update(f"{file.relative_to(folder)}\n".encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:12]


def git_revision() -> str:
    """The git revision of the running source; empty if it is not in a git checkout."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout.strip()
