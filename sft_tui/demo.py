"""The demos from beginning to end: their stages, their data, and the start of their runs.

The first fine-tunes a chat model that already speaks; the other, `--t5`, begins with random weights and needs no model.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.contract.locks import FolderLock, holder_of, is_locked
from engine.contract.messages import BusyError, InputError
from engine.contract.outputdir import OutputDir
from engine.contract.owner import Owner
from engine.contract.presets import preset
from engine.contract.rundir import RunDir
from engine.contract.texts import Lang, say
from sft_tui import starting
from sft_tui.found import Stage
from sft_tui.output import echo
from sft_tui.runs import Run, read_run
from sft_tui.text import duration

VOCABULARY = 4000
NO_MODEL = ("demo_model_missing",)  # errors after which the other demo is done
LOOK_SECONDS, PATIENCE_SECONDS = 0.2, 20.0  # for the second half to start after the first
PREPARED_SECONDS = 1200.0  # a model may have to be downloaded; the rest takes a few seconds


@dataclass(frozen=True)
class Story:
    """A demo: the presets of its runs, one after another; `prepare` makes what the first one needs.

    `prepare` raises InputError.
    """

    presets: tuple[str, ...]
    prepare: Callable[[], None]
    question: str  # to ask the model when it is done

    @property
    def last(self) -> str:
        """The preset of its last run."""
        return self.presets[-1]

    @property
    def model(self) -> Path:
        """The folder of the model that it ends with."""
        return OutputDir(Path(preset(self.last).config.output_dir)).best

    def stage(self) -> Stage:
        """How far it is: `first` and `second` are runs that have begun and are not finished."""
        first, last = _owner(self.presets[0]), _owner(self.last)
        if last.known:
            return "done" if last.finished else "second"
        if first.known:
            return "between" if first.finished else "first"
        return "new"

    def current(self) -> str:
        """Its run that is training now; empty if none is."""
        return next(filter(None, map(running, self.presets)), "")

    @property
    def begun(self) -> bool:
        """Whether a run of it exists."""
        return self.stage() != "new" or bool(self.current())

    def next_preset(self) -> str:
        """The preset of the first run that is not finished."""
        return next(name for name in self.presets if not is_done(name))


def _prepare_chat() -> None:
    """Gets the model of the chat demo unless it is there, and writes its rows; raises InputError."""
    from engine.contract.requests import DemoChatRequest  # which no other command needs
    from sft_tui import data_import, demo_model

    demo_model.obtain()
    config = preset("demo").config
    for held_out, path in ((False, config.train_file), (True, config.validation_file)):
        data_import.import_rows([], what=DemoChatRequest, train=path, held_out=held_out, overwrite=True)


def _prepare_t5() -> None:
    """Writes the rows of both halves, and their tokenizer unless it exists; raises InputError."""
    from engine.contract.requests import DemoRequest, DemoTextsRequest  # which no other command needs
    from sft_tui import data_import

    first, config = (preset(name).config for name in T5.presets)
    data_import.import_rows([], what=DemoRequest, train=config.train_file, valid=config.validation_file, overwrite=True)
    for rows, texts in ((config.train_file, first.train_file), (config.validation_file, first.validation_file)):
        data_import.import_rows([rows], what=DemoTextsRequest, train=texts, overwrite=True)
    if not Path(config.tokenizer).is_dir():
        data_import.train_tokenizer([config.train_file, config.validation_file], config.tokenizer, VOCABULARY)


CHAT = Story(("demo",), _prepare_chat, "Who are you?")
T5 = Story(("demo-t5-pretrain", "demo-t5"), _prepare_t5, "你好")
STORIES = {story.last: story for story in (CHAT, T5)}


def story_of(name: str) -> Story | None:
    """The demo that a preset is a part of; None if it is none's."""
    return next((story for story in STORIES.values() if name in story.presets), None)


def run_as_text(logs: Path, lang: Lang, story: Story, follow: Callable[[RunDir], int]) -> int:
    """Runs a demo as text from its current stage to its end, with replies before and after; returns the exit code.

    `follow` shows a run to its end. If the user stops following, all of the demo keeps running.
    """
    began = time.monotonic()
    story, run = begin(logs, story, lang, lambda line: echo(line, err=True))
    anything = bool(run)
    while run:
        run_dir = RunDir(logs / run)
        half, code = run_dir.read_record().preset, follow(run_dir)
        if code or not is_done(half):
            return code
        run = await_next(logs, story, lang) if half != story.last else ""
    for line in result(story, terminal_width(), lang):
        echo(line)
    took = duration(time.monotonic() - began)
    done = say("app.demo_done", lang, time=took, **_ask(story)) if anything else demo_done(story, lang)
    echo(f"\n{done}", err=True)
    return 0


def terminal_width() -> int:
    """Columns of the terminal; 80 without one."""
    return shutil.get_terminal_size((80, 24)).columns


def begin(logs: Path, story: Story, lang: Lang, tell: Callable[[str], None]) -> tuple[Story, str]:
    """The demo and its run that is training, started or resumed if none is; no run if the demo is done.

    `tell` gets lines about what is prepared. If the model of the chat demo cannot be had, it gets the reason, and the
    other demo takes its place, unless the chat demo has begun. When a run is finished, its supervisor starts the next.
    Raises InputError.
    """
    lock = _one_at_a_time(logs)
    try:
        story = _to_continue(story)
        try:
            return _begin(logs, story, lang, tell)
        except InputError as error:
            if story is T5 or story.begun or error.message.code not in NO_MODEL:
                raise
            tell(error.message.text(lang))
            return _begin(logs, T5, lang, tell)
    finally:
        lock.release()


def _to_continue(story: Story) -> Story:
    """The demo to continue: the one that took the place of the chat demo, if it is under way, needs no model."""
    from sft_tui import demo_model  # which loads what only a download needs

    begun = shown_for(story)
    return story if begun.stage() == "done" or demo_model.is_kept() else begun


def shown_for(story: Story) -> Story:
    """The demo that a person sees who asked for `story`: the other one if that took its place."""
    return T5 if story is CHAT and not CHAT.begun and T5.begun else story


def _begin(logs: Path, story: Story, lang: Lang, tell: Callable[[str], None]) -> tuple[Story, str]:
    run = story.current()
    if run or story.stage() == "done":
        return story, run
    if not is_done(story.presets[0]):
        tell(say(f"app.{story.last}_data", lang))
        story.prepare()
    return story, _start(logs, story, story.next_preset())


def _one_at_a_time(logs: Path) -> FolderLock:
    """Holds the lock of the demo's data; waits for another process that is preparing it."""
    folder = Path(preset(CHAT.last).config.train_file).parent
    deadline = time.monotonic() + PREPARED_SECONDS
    while True:
        try:
            return FolderLock.acquire(folder, "demo", logs, "train_file")
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)


def _start(logs: Path, story: Story, name: str) -> str:
    from sft_tui import demo_model  # which loads what only a download needs

    values = {"pretrained_model": str(demo_model.folder())} if story is CHAT else {}
    record = starting.plan_run(name, values, resume=_owner(name).known)
    return starting.start(logs, replace(record, continued=name != story.last)).record.run


def continue_after(run_dir: RunDir) -> None:
    """Starts the next run of a demo if this one is continued and finished; raises InputError."""
    record = run_dir.read_record()
    story = story_of(record.preset)
    if record.continued and story is not None and story.stage() == "between" and not running(story.last):
        _start(run_dir.path.parent, story, story.last)


def await_next(logs: Path, story: Story, lang: Lang) -> str:
    """The last run of a demo, once it exists; started here if no process is left to start it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and not is_done(story.last):
        run = running(story.last)
        if run:
            return run
        time.sleep(LOOK_SECONDS)
    return begin(logs, story, lang, lambda _line: None)[1]


def what_remains(run: Run, lang: Lang) -> str:
    """The message for a finished run whose demo has another that is not running; empty for any other run."""
    story = story_of(run.record.preset)
    over = run.record.continued and not run.alive and run.status == "finished"
    if story is None or not over or story.stage() != "between" or running(story.last):
        return ""
    return say("app.demo_between", lang)


def running(name: str) -> str:
    """The run of a preset that is training now; empty if none is."""
    folder = Path(preset(name).config.output_dir)
    return Path(holder_of(folder).run_dir).name if is_locked(folder) else ""


def is_done(name: str) -> bool:
    """Whether the run of a preset is finished."""
    return _owner(name).finished


def _owner(name: str) -> Owner:
    return OutputDir(Path(preset(name).config.output_dir)).owner()


def result(story: Story, width: int, lang: Lang) -> list[str]:
    """What a finished demo changed: replies before and after, and scores; nothing if its run was deleted."""
    from sft_tui import before_after  # which breaks lines by what no other command loads

    try:
        state = read_run(RunDir(Path(_owner(story.last).run_dir))).state
    except InputError:
        return []
    changed = before_after.lines(state, width, lang)
    return ["", say(f"app.{story.last}_result", lang), "", *changed] if changed else []


def demo_done(story: Story, lang: Lang) -> str:
    """The line shown when a demo is done."""
    return say("screen.demo_done", lang, **_ask(story))


def _ask(story: Story) -> dict[str, str]:
    return {"model": str(story.model), "question": story.question}
