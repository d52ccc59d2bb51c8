"""The demo from beginning to end: its stage, its data, and the start of its halves."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from engine.contract.locks import FolderLock, holder_of, is_locked
from engine.contract.messages import BusyError
from engine.contract.outputdir import OutputDir
from engine.contract.owner import Owner
from engine.contract.presets import preset
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import starting
from sft_tui.output import echo
from sft_tui.replies import replies
from sft_tui.runs import Run
from sft_tui.text import duration, safe

PROMPTS = ("你好", "什么是ai", "你吃什么", "What is AI?", "Tell me a joke")
HALVES = ("demo-pretrain", "demo")
VOCABULARY = 4000
LOOK_SECONDS, PATIENCE_SECONDS = 0.2, 20.0  # for the second half to start after the first
PREPARED_SECONDS = 120.0  # data and tokenizer take a few seconds
Stage = Literal["new", "first", "between", "second", "done"]


def run_as_text(logs: Path, lang: Lang, follow: Callable[[RunDir], int]) -> int:
    """Runs the demo as text from its current stage to its end, with replies before and after; returns the exit code.

    `follow` shows a run to its end. If the user stops following, all of the demo keeps running.
    """
    began = time.monotonic()
    config = preset("demo").config
    echo(say("app.demo_data", lang), err=True)
    run = begin(logs)
    while run:
        run_dir = RunDir(logs / run)
        half, code = run_dir.read_record().preset, follow(run_dir)
        if code or not is_done(half):
            return code
        run = await_next(logs) if half == HALVES[0] else ""
    before, after = config.pretrained_model, str(Path(config.output_dir) / "best")
    answers = [replies(model, list(PROMPTS), 40) for model in (before, after)]
    echo("\n" + say("app.demo_replies", lang))
    for prompt, first, second in zip(PROMPTS, *answers, strict=True):
        echo(prompt)
        echo(say("app.demo_before", lang, text=safe(first, 200)))
        echo(say("app.demo_after", lang, text=safe(second, 200)))
    echo("\n" + say("app.demo_done", lang, time=duration(time.monotonic() - began), model=after), err=True)
    return 0


def begin(logs: Path) -> str:
    """The run of the demo that is training, started or resumed if none is; empty if the demo is done.

    When the first half is finished, its supervisor starts the second. Raises InputError.
    """
    lock = _one_at_a_time(logs)
    try:
        run = current()
        if run or stage() == "done":
            return run
        if not is_done(HALVES[0]):
            prepare()
        return _start(logs, HALVES[is_done(HALVES[0])])
    finally:
        lock.release()


def _one_at_a_time(logs: Path) -> FolderLock:
    """Holds the lock of the demo's data; waits for another process that is preparing it."""
    folder = Path(preset(HALVES[-1]).config.train_file).parent
    deadline = time.monotonic() + PREPARED_SECONDS
    while True:
        try:
            return FolderLock.acquire(folder, "demo", logs, "train_file")
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)


def _start(logs: Path, half: str) -> str:
    record = starting.plan_run(half, {}, resume=_owner(half).known)
    return starting.start(logs, replace(record, continued=half == HALVES[0])).record.run


def continue_after(run_dir: RunDir) -> None:
    """Starts the second half of the demo if this run is the first half and is finished; raises InputError."""
    record = run_dir.read_record()
    if record.continued and record.preset == HALVES[0] and stage() == "between" and not running(HALVES[1]):
        _start(run_dir.path.parent, HALVES[1])


def await_next(logs: Path) -> str:
    """The run of the second half, once it exists; started here if no process is left to start it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and not is_done(HALVES[1]):
        run = running(HALVES[1])
        if run:
            return run
        time.sleep(LOOK_SECONDS)
    return begin(logs)


def prepare() -> None:
    """Writes the rows of both halves, and their tokenizer unless it exists; raises InputError."""
    from engine.contract.requests import DemoRequest, DemoTextsRequest  # which no other command needs
    from sft_tui import data_import

    first, config = (preset(name).config for name in HALVES)
    data_import.import_rows([], what=DemoRequest, train=config.train_file, valid=config.validation_file, overwrite=True)
    for rows, texts in ((config.train_file, first.train_file), (config.validation_file, first.validation_file)):
        data_import.import_rows([rows], what=DemoTextsRequest, train=texts, overwrite=True)
    if not Path(config.tokenizer).is_dir():
        data_import.train_tokenizer([config.train_file, config.validation_file], config.tokenizer, VOCABULARY)


def stage() -> Stage:
    """The stage of the demo: `first` and `second` are halves that have begun and are not finished."""
    first, second = (_owner(name) for name in HALVES)
    if second.known:
        return "done" if second.finished else "second"
    if first.known:
        return "between" if first.finished else "first"
    return "new"


def what_remains(run: Run, lang: Lang) -> str:
    """The message for a finished first half whose second half is not running; empty for any other run."""
    over = run.record.continued and not run.alive and run.status == "finished"
    if not over or stage() != "between" or running(HALVES[1]):
        return ""
    return say("app.demo_between", lang)


def current() -> str:
    """The run of the demo that is training now; empty if none is."""
    return next(filter(None, map(running, HALVES)), "")


def running(name: str) -> str:
    """The run that is training this half of the demo now; empty if none is."""
    folder = Path(preset(name).config.output_dir)
    return Path(holder_of(folder).run_dir).name if is_locked(folder) else ""


def is_done(name: str) -> bool:
    """Whether a half of the demo is finished."""
    return _owner(name).finished


def _owner(name: str) -> Owner:
    return OutputDir(Path(preset(name).config.output_dir)).owner()


def demo_done(lang: Lang) -> str:
    """The lines shown when the demo is done."""
    model = str(OutputDir(Path(preset(HALVES[-1]).config.output_dir)).best)
    return say("screen.demo_done", lang, model=model)
