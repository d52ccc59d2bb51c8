"""Checks of how the process ended that reads foreign files, and what fixes them."""

from collections.abc import Iterator
from dataclasses import dataclass

from engine.contract.config import RunConfig
from sft_tui.preflight import data, model
from sft_tui.preflight.ask_engine import InspectorDied
from sft_tui.preflight.declaration import Actions, Advice, CheckedRun, Group, Seen
from sft_tui.preflight.finding import Finding


@dataclass(frozen=True)
class ReaderEnd:
    """A process that ended without an answer, and the setting whose file it was reading."""

    config: RunConfig
    died: InspectorDied

    @property
    def setting(self) -> str:
        """What it was reading."""
        return self.died.doing or "train_file"

    def seen(self, cause: str) -> Iterator[Seen]:
        """What is seen of its end, if that is its cause."""
        if self.died.cause == cause:
            path = str(getattr(self.config, self.setting, self.setting))
            yield Seen({"path": path, "why": self.died.why, "setting": self.setting}, subject=self.setting)


READER = Group[ReaderEnd]("Files that cannot be read")


def another_file(finding: Finding, run: CheckedRun) -> Actions | Advice:
    """Use another file, model or folder in its place."""
    of_subject = {"pretrained_model": model.another, "token_store": data.another_store}
    return of_subject.get(finding.subject, data.other_rows)(finding, run)


@READER.check("reader_crash", "error", remedy=another_file)
def _reader_crash(end: ReaderEnd) -> Iterator[Seen]:
    """A file crashes its reader: it is corrupt or malicious."""
    return end.seen("crash")


@READER.check("reader_memory", "error")
def _reader_memory(end: ReaderEnd) -> Iterator[Seen]:
    """There is too little memory to read a file."""
    return end.seen("memory")


@READER.check("reader_failed", "error")
def _reader_failed(end: ReaderEnd) -> Iterator[Seen]:
    """The reader failed for another reason."""
    return end.seen("failed")
