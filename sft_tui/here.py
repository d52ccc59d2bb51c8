"""What lies in the working folder: files of rows, models, runs; found in pieces, within bounds, without reading much.

Folders are listed to a fixed depth, each up to a number of entries; what a file or a model is, a process of the engine
says, one after another.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Self, TypeVar

from engine.contract.bounds import Made
from engine.contract.glances import DataGlance, ModelGlance
from engine.contract.messages import InputError, Message
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from engine.contract.requests import DataGlanceRequest, ModelGlanceRequest
from engine.contract.rundir import RunDir
from sft_tui import demo, remembered, runs
from sft_tui.found import DataFile, Found, ModelPlace, Progress, RunHere, RunState
from sft_tui.preflight.ask_engine import Inspector, InspectorDied
from sft_tui.preflight.missing import KINDS, WEIGHTS, looks_like_rows
from sft_tui.queue.entries import Queue
from sft_tui.queue.queue_file import QueueFolder

MOST_ENTRIES = 2000  # of one folder
MOST_FILES, MOST_MODELS, MOST_RUNS = 40, 20, 8  # that are shown
DATA_FOLDERS = (".", "data", "data/*")
MODEL_FOLDERS = ("*", "models/*", "models/*/*", "model_save/*", "model_save/*/best")
DATA_ENDS = tuple(f".{kind}" for kind in (*KINDS, "parquet", "ndjson"))
GGUF = ".gguf"
Part = TypeVar("Part")


def scan(logs: Path, known: Found | None = None) -> Iterator[Found]:
    """What lies here, more from piece to piece: first names, then what each is, then the runs.

    What is `known` of a file that has not changed is not read again.
    """
    found = listed(remembered.recent(logs, "pretrained_model"))
    known = known or Found()
    files = {(one.path, one.changed): one.about for one in known.data}
    models = {(one.path, one.changed): one.about for one in known.models}
    found = replace(
        found,
        reading=True,
        data=tuple(replace(one, about=files.get((one.path, one.changed))) for one in found.data),
        models=tuple(replace(one, about=models.get((one.path, one.changed))) for one in found.models),
        runs=known.runs,
        demo=known.demo,
        queue=known.queue,
    )
    yield found
    found = replace(found, runs=tuple(_runs(logs, known.runs)), demo=_demo(), queue=_queue(logs))
    yield found
    with Glances() as glances:
        for place, file in enumerate(found.data):
            if file.about is None:
                about = glances.of_data(file.path)
                found = replace(found, data=_with(found.data, place, replace(file, about=about)))
                yield found
        for place, model in enumerate(found.models):
            if model.about is None and model.kind != "gguf":
                seen = glances.of_model(model.path)
                found = replace(found, models=_with(found.models, place, replace(model, about=seen)))
                yield found
    yield replace(found, reading=False)


def _with(parts: tuple[Part, ...], place: int, part: Part) -> tuple[Part, ...]:
    return (*parts[:place], part, *parts[place + 1 :])


def listed(recent: Sequence[str] = ()) -> Found:
    """The files and models by their names; also the models that runs were started from before."""
    own = {os.path.normpath(Path(preset("demo").config.train_file).parent)}
    files = [one for one in data_files(DATA_FOLDERS) if os.path.dirname(os.path.normpath(one.path)) not in own]
    models = model_places(MODEL_FOLDERS)
    used = filter(None, map(model_at, map(os.path.expanduser, recent)))
    models += [one for one in used if one.path not in {model.path for model in models}]
    left_out = max(0, len(files) - MOST_FILES) + max(0, len(models) - MOST_MODELS)
    newest = sorted(files, key=lambda one: one.changed, reverse=True)[:MOST_FILES]
    kept = tuple(sorted(newest, key=lambda one: one.path))
    return Found(kept, tuple(models[:MOST_MODELS]), left_out=left_out)


def data_files(folders: Sequence[str]) -> list[DataFile]:
    """The files in folders whose names say that they may hold rows, by path."""
    found: dict[str, DataFile] = {}
    for folder in folders:
        for path in _expanded(folder):
            for entry, status in entries(path):
                if entry.name.lower().endswith(DATA_ENDS) and stat.S_ISREG(status.st_mode):
                    name = os.path.normpath(entry.path)
                    if looks_like_rows(Path(name)):
                        found.setdefault(name, DataFile(name, status.st_size, status.st_mtime_ns))
    return sorted(found.values(), key=lambda one: one.path)


def model_places(folders: Sequence[str]) -> list[ModelPlace]:
    """The folders that may hold a model, and GGUF files here, by path."""
    found: dict[str, ModelPlace] = {}
    for folder in folders:
        for path in _expanded(folder):
            if (model := model_at(path)) is not None:
                found.setdefault(model.path, model)
    for folder in (".", "models"):
        for entry, status in entries(folder):
            if entry.name.lower().endswith(GGUF) and stat.S_ISREG(status.st_mode):
                name = os.path.normpath(entry.path)
                found[name] = ModelPlace(name, "gguf", changed=status.st_mtime_ns)
    return sorted(found.values(), key=lambda one: one.path)


def model_at(path: str) -> ModelPlace | None:
    """The model that a folder seems to hold; None if it has no configuration or no weights."""
    folder = Path(os.path.normpath(path))
    with contextlib.suppress(OSError, ValueError):
        changed = (folder / "config.json").stat()
        weighty = any(any(islice(folder.glob(pattern), 1)) for pattern in WEIGHTS)
        if stat.S_ISREG(changed.st_mode) and weighty:
            run = OutputDir(folder.parent).owner().run if folder.name == "best" else ""
            return ModelPlace(str(folder), "best" if run else "base", run, changed.st_mtime_ns)
    return None


def entries(folder: str) -> Iterator[tuple["os.DirEntry[str]", os.stat_result]]:
    """The entries of a folder that can be seen, with what they are: links are followed once; none if it is unreadable.

    Names that begin with a dot are left out.
    """
    with contextlib.suppress(OSError, ValueError), os.scandir(folder) as found:
        for entry in islice(found, MOST_ENTRIES):
            if not entry.name.startswith("."):
                with contextlib.suppress(OSError):  # a link to nothing
                    yield entry, entry.stat()


def _expanded(pattern: str) -> Iterator[str]:
    """The folders that a pattern with `*` stands for, each part of it bounded; links to folders count once."""
    head, star, rest = pattern.partition("*")
    if not star:
        yield pattern
        return
    for entry, status in entries(head or "."):
        if stat.S_ISDIR(status.st_mode):
            yield from _expanded(f"{entry.path}{rest}")


def _runs(logs: Path, known: Sequence[RunHere]) -> Iterator[RunHere]:
    """The newest runs; those that had ended and have written nothing since are not read again."""
    before = {(one.name, one.written): one for one in known if one.state != "running"}
    for name in runs.names(logs)[:MOST_RUNS]:
        run_dir = RunDir(logs / name)
        if (ended := before.get((name, _changed(run_dir.events)))) is not None:
            yield ended
            continue
        with contextlib.suppress(InputError):  # the list of runs says why it cannot be read
            run = runs.read_run(run_dir)
            if run.record.job == "train":
                yield _run_here(run)


def _run_here(run: runs.Run) -> RunHere:
    output, state = run.output, run.state
    unfinished = output.unfinished() if output is not None and not run.alive else None
    step, total = (state.step.step, state.step.steps_total) if state.step else (0, 0)
    if unfinished is not None:
        step = unfinished[1]
    finished = run.status == "finished"
    kind: RunState = "running" if run.alive else "unfinished" if unfinished else "finished" if finished else "ended"
    best = str(output.best) if output is not None and output.best.is_dir() else ""
    return RunHere(run.name, run.record.preset, kind, step, total, best, _changed(run.run_dir.events))


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _queue(logs: Path) -> Queue | None:
    """The queue of runs if there is something in it that is not over."""
    found, _ = QueueFolder(logs).look()
    return found if found.waiting or found.active else None


def _demo() -> Progress:
    story = demo.shown_for(demo.CHAT)
    return Progress(story.stage(), bool(story.current()))


class Glances:
    """Asks a process of the engine what files and models are; another takes its place if it dies of one."""

    def __init__(self, make: Callable[[], Inspector] = Inspector) -> None:
        self._make = make
        self._inspector: Inspector | None = None

    def __enter__(self) -> Self:
        """Starts nothing: the first question does."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        if self._inspector is not None:
            self._inspector.__exit__()
            self._inspector = None

    def of_data(self, path: str) -> DataGlance | Message:
        """What a file of rows is."""
        return self._asked(DataGlanceRequest(path), DataGlance, path)

    def of_model(self, path: str) -> ModelGlance | Message:
        """What a model is."""
        return self._asked(ModelGlanceRequest(path), ModelGlance, path)

    def _asked(self, request: DataGlanceRequest | ModelGlanceRequest, kind: type[Made], path: str) -> Made | Message:
        if self._inspector is None:
            self._inspector = self._make().__enter__()
        try:
            return self._inspector.ask(request, kind)
        except InputError as error:
            return error.message
        except InspectorDied as died:
            self.__exit__()
            return Message.of(f"reader_{died.cause}", path=path, why=died.why)
