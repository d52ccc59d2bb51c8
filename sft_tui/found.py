"""What was found in the working folder: files of rows, models, runs; what is known of each, and what it is good for."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from engine.contract.glances import DataGlance, ModelGlance
from engine.contract.messages import Message
from sft_tui.queue.entries import Queue

# The parts of a data set by the ends of their names, as imports and most people name them.
PART_NAME = re.compile(r"(.+?)[._-](train|training|valid|validation|val|dev|eval|test)")
PARTS = {"train": "train", "training": "train", "test": "test"}
ModelKind = Literal["base", "best", "gguf"]
RunState = Literal["running", "unfinished", "finished", "ended"]
Stage = Literal["new", "first", "between", "second", "done"]


class Progress(NamedTuple):
    """How far a demo is, and whether it runs now."""

    stage: Stage
    runs: bool


NEW = Progress("new", False)


@dataclass(frozen=True)
class DataFile:
    """A file that may hold rows; `about` is None until it was read, and a message if it cannot be."""

    path: str
    bytes: int
    changed: int  # nanoseconds since 1970
    about: DataGlance | Message | None = None

    @property
    def glance(self) -> DataGlance | None:
        """What is known of it."""
        return self.about if isinstance(self.about, DataGlance) else None

    @property
    def part(self) -> tuple[str, str]:
        """Its data set, by folder and name, and which part of it: train, valid or test; empty if it is all of it."""
        stem = self.path.rpartition(".")[0]
        found = PART_NAME.fullmatch(stem)
        return (found[1], PARTS.get(found[2], "valid")) if found else (stem, "")


@dataclass(frozen=True)
class ModelPlace:
    """A folder that may hold a model, or a GGUF file; `run` is the run whose best model it is."""

    path: str
    kind: ModelKind = "base"
    run: str = ""
    changed: int = 0
    about: ModelGlance | Message | None = None

    @property
    def glance(self) -> ModelGlance | None:
        """What is known of it."""
        return self.about if isinstance(self.about, ModelGlance) else None


@dataclass(frozen=True)
class RunHere:
    """A run in the folder of runs."""

    name: str
    preset: str
    state: RunState
    step: int = 0
    steps_total: int = 0
    model: str = ""  # the folder of its best model
    written: int = 0  # when its stream was written last, in nanoseconds since 1970


@dataclass(frozen=True)
class DataSet:
    """Files that a run can train on as they are."""

    train: DataFile
    valid: DataFile
    test: DataFile | None = None

    @property
    def files(self) -> dict[str, str]:
        """Its files by setting."""
        return {
            "train_file": self.train.path,
            "validation_file": self.valid.path,
            "test_file": (self.test or self.valid).path,
        }


@dataclass(frozen=True)
class Found:
    """What was found so far; `reading` says that there may be more to know."""

    data: tuple[DataFile, ...] = ()
    models: tuple[ModelPlace, ...] = ()
    runs: tuple[RunHere, ...] = ()
    demo: Progress = NEW  # the chat demo, or the one that took its place
    queue: Queue | None = None  # if runs wait in it, or it has started one
    left_out: int = 0  # files and models beyond the bounds
    reading: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing."""
        return not (self.data or self.models or self.runs or self.queue)

    def sets(self) -> list[DataSet]:
        """The data sets that can be trained on, the newest first."""
        parts: dict[str, dict[str, DataFile]] = {}
        for file in self.data:
            if file.glance is not None and file.glance.ready:
                name, part = file.part
                parts.setdefault(name, {})[part] = file
        whole = [known for known in parts.values() if "train" in known and "valid" in known]
        found = [DataSet(known["train"], known["valid"], known.get("test")) for known in whole]
        return sorted(found, key=lambda one: one.train.changed, reverse=True)

    def sources(self) -> list[DataFile]:
        """Files to import, the largest first: those that no run reads as they are, and rows that are not split.

        Those come last of which a person must say which columns are meant.
        """
        split = {path for one in self.sets() for path in one.files.values()}
        found = [one for one in self.data if one.path not in split and not isinstance(one.about, Message)]
        usable = [one for one in found if one.glance is None or one.glance.rows]
        return sorted(usable, key=lambda one: (one.glance is not None and not one.glance.shape, -one.bytes))
