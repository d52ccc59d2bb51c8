"""The screen of a blind comparison: the next replies are generated while these are judged."""

import contextlib
import queue
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from textual import work
from textual.worker import get_current_worker

from engine.contract.config import RunConfig, to_json
from engine.contract.conversing import Replied
from engine.contract.facts import PromptFacts
from engine.contract.messages import InputError, Message
from engine.contract.requests import PromptsRequest
from engine.contract.rundir import RunDir
from engine.contract.texts import LANGS, say
from sft_tui import judging, runs
from sft_tui.chat_model import ChatModel, Settings
from sft_tui.chat_names import model_name
from sft_tui.judging import Comparison, Trial
from sft_tui.preflight.ask_engine import InspectorDied, ask
from sft_tui.screen import actions, blind_view
from sft_tui.screen.base import CanvasScreen
from sft_tui.screen.blind_view import BlindView
from sft_tui.screen.bottom import Question
from sft_tui.screen.ink import Line
from sft_tui.text import safe

LOOK_SECONDS = 0.1
LEAST_SECONDS = 0.3  # that replies are shown before they can be judged
AHEAD = 2  # trials whose replies are generated before they are judged
FILES = ("test_file", "validation_file")  # where prompts are from: of the second, as many as the first lacks


class Prompts(NamedTuple):
    """What a comparison is by; `trained` prompts of the files were left out since the training file has them too."""

    prompts: tuple[str, ...]
    files: tuple[str, ...]
    trained: int
    compared: bool


def held_out(config: RunConfig, seed: int) -> Prompts:
    """Prompts of the files of a run that it was not trained on; raises InputError."""
    by_path = {getattr(config, name): name for name in reversed(FILES)}  # one file may be both
    named = [name for name in FILES if name in by_path.values() and getattr(config, name)]
    settings = [name for name in named if Path(getattr(config, name)).is_file()] or named[:1]
    if not settings:
        raise InputError("blind_no_file")
    prompts: dict[str, str] = {}  # without the differences in white space that do not count
    files: list[str] = []
    found = trained = 0
    compared = True
    for setting in settings:
        if len(prompts) >= judging.PROMPTS:
            break
        facts = _facts(config, setting, seed)
        files.append(str(getattr(config, setting)))
        found, trained, compared = found + facts.found, trained + facts.trained, compared and facts.compared
        for prompt in facts.prompts:
            prompts.setdefault(" ".join(prompt.split()), prompt)
    chosen = tuple(prompts.values())[: judging.PROMPTS]
    if not chosen:
        raise InputError("blind_no_prompts", path=", ".join(files), found=found, trained=trained)
    return Prompts(chosen, tuple(files), trained, compared)


def _facts(config: RunConfig, setting: str, seed: int) -> PromptFacts:
    try:
        return ask(PromptsRequest(to_json(config), setting, judging.PROMPTS, seed), PromptFacts)
    except InspectorDied as died:
        raise died.error(config, getattr(config, setting)) from None


class BlindScreen(CanvasScreen):
    """Twenty prompts, each with two replies to choose from, by the models of a chat, which stay its own."""

    scope = actions.BLIND

    def __init__(self, models: list[ChatModel], settings: Settings, run: str = "") -> None:
        super().__init__()
        self.about, self._models, self._settings = run, models, settings
        self.comparison: Comparison | None = None
        self.place = self.top = 0
        self.doing = self.fault = ""
        self._heard: queue.SimpleQueue[tuple[int, int, Replied | Message, int]] = queue.SimpleQueue()
        self._parts: dict[int, dict[int, str]] = {}  # replies by trial and model, until both are known
        self._asked: set[int] = set()
        self._round, self._since = 0, 0.0  # `_since`: when the replies were first shown
        self._left = False
        self._earlier: Comparison | None = None  # whose judgements would be lost, while that is asked

    def on_mount(self) -> None:
        """Continues the comparison of the run, or begins one."""
        super().on_mount()
        self.set_interval(LOOK_SECONDS, self._look)
        self.doing = say("blind.reading", self.services.options.lang)
        self.prepare()

    def on_unmount(self) -> None:
        """Gives the models back to the chat."""
        self._left = True
        self._abandon()
        for model in self._models:
            model.settings = self._settings

    @property
    def _kept(self) -> Path | None:
        return RunDir(self.services.options.logs / self.about).blind if self.about else None

    @work(thread=True, exclusive=True, group="blind")
    def prepare(self, file: str = "", *, again: bool = False, agreed: bool = False) -> None:
        """Reads the comparison that is kept, or the prompts of a new one; `again` begins another one.

        Asks before judgements are lost that another pair of models or other prompts would replace, unless `agreed`.
        """
        worker, kept, names = get_current_worker(), self._kept, tuple(model.state.name for model in self._models)
        found = judging.read(kept) if kept is not None else None
        notice = self._about_keeping(kept, found)
        others = found is None or not self._are(found.names, names) or bool(file)
        if found is not None and others and not (agreed or again) and judging.tally(found).judged:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._ask_to_replace, found, file)
            return
        try:
            if others or again:
                found = self._new(file, names, 0 if found is None else found.seed + 1)
        except InputError as error:
            if not worker.is_cancelled:
                self.app.call_from_thread(self._fail, error.message, notice)
            return
        if not worker.is_cancelled:
            self.app.call_from_thread(self._begin, found, notice)

    def _ask_to_replace(self, earlier: Comparison, file: str) -> None:
        """Asks whether the earlier judgements may be lost."""
        if self._left:
            return

        def answered(key: str) -> None:
            if key == "y":
                self._earlier = None
                self.prepare(file, agreed=True)

        self._earlier = earlier
        first, second = (safe(name, 60) for name in earlier.names)
        words = {"path": safe(str(self._kept), 200), "judged": judging.tally(earlier).judged}
        lang = self.services.options.lang
        self.ask(Question(say("blind.ask_replace", lang, first=first, second=second, **words), answered))

    def close_question(self) -> None:
        """Closes the question; without a yes, the earlier judgements stay."""
        super().close_question()
        if self._earlier is not None:
            self.call_later(self._keep_earlier)

    def _keep_earlier(self) -> None:
        """Continues the earlier comparison if it is of these models; else returns to the chat."""
        earlier, self._earlier = self._earlier, None
        if earlier is None:  # it is being replaced
            return
        if self._are(earlier.names, tuple(model.state.name for model in self._models)):
            self.prepare()
        else:
            self.services.back()

    def _are(self, kept: tuple[str, ...], names: tuple[str, ...]) -> bool:
        """Whether the models of a comparison are these; it may have been begun in another language."""
        others = [tuple(model_name(model.folder, lang) for model in self._models) for lang in LANGS]
        return kept in (names, *others)

    def _about_keeping(self, kept: Path | None, found: Comparison | None) -> str:
        """What to know of the file of the judgements: that there is none, or that the one so far is lost."""
        lang = self.services.options.lang
        if kept is None:
            return say("blind.not_kept", lang)
        return say("blind.damaged", lang, path=safe(str(kept), 200)) if found is None and kept.exists() else ""

    def _new(self, file: str, names: tuple[str, ...], seed: int) -> Comparison:
        """A comparison by prompts of the run's held-out files, or of a file that was chosen; raises InputError."""
        config = RunConfig(train_file="", validation_file="", test_file="")
        if self.about:
            config = runs.read_run(runs.find(self.services.options.logs, self.about)).record.run_config()
        if file:
            config = replace(config, test_file=file, validation_file="")
        by, how = held_out(config, seed), self._settings
        return Comparison(
            names, judging.trials_of(by.prompts, seed), seed, by.files, by.trained, by.compared,
            how.system, how.sampling, how.max_new_tokens,
        )  # fmt: skip

    def _fail(self, why: Message, notice: str = "") -> None:
        if self._left:
            return
        self.fault = why.text(self.services.options.lang)
        self._show(notice)

    def _show(self, notice: str) -> None:
        if notice:
            self.show_notice(notice, "warn")
        else:
            self.draw()

    def _begin(self, comparison: Comparison, notice: str = "") -> None:
        if self._left:
            return
        self.fault = ""
        self.comparison = comparison
        self._go(comparison.next)
        for model in self._models:
            model.settings = comparison.settings
        self._generate()
        self._show(notice)

    def _abandon(self) -> None:
        self._round += 1
        self._asked.clear()
        self._parts.clear()
        for model in self._models:
            model.abandon()

    def _generate(self) -> None:
        """Asks for the replies to this prompt and the next ones."""
        found = self.comparison
        if found is None:
            return
        for place in range(self.place, min(len(found.trials), self.place + 1 + AHEAD)):
            if place not in self._asked and not found.trials[place].answered:
                self._asked.add(place)
                for at, model in enumerate(self._models):
                    self._ask(model, at, place, found.trials[place].prompt)

    def _ask(self, model: ChatModel, at: int, place: int, prompt: str) -> None:
        heard, began = self._heard, self._round
        model.alone(prompt, lambda result: heard.put((place, at, result, began)))

    def _look(self) -> None:
        """Takes over the replies that have come."""
        changed = False
        with contextlib.suppress(queue.Empty):
            while True:
                place, at, result, began = self._heard.get_nowait()
                if began == self._round:
                    changed = True
                    self._take(place, at, result)
        if changed and self.in_front:
            self.draw()

    def _take(self, place: int, at: int, result: Replied | Message) -> None:
        if isinstance(result, Message):
            self._abandon()
            self._fail(result)
            return
        parts = self._parts.setdefault(place, {})
        parts[at] = result.text
        if len(parts) == len(self._models) and self.comparison is not None:
            trial = replace(self.comparison.trials[place], replies=tuple(parts[at] for at in sorted(parts)))
            self._since = time.monotonic() if place == self.place else self._since
            self._change(place, trial)

    def _change(self, place: int, trial: Trial) -> None:
        if self.comparison is None:
            return
        self.comparison = self.comparison.changed(place, trial)
        if self._kept is None:
            return
        try:
            judging.write(self._kept, self.comparison)
        except OSError as error:
            lang = self.services.options.lang
            self.show_notice(say("blind.unkept", lang, path=str(self._kept), why=error.strerror or str(error)), "warn")

    @property
    def _trial(self) -> Trial | None:
        found = self.comparison
        return found.trials[self.place] if found is not None and self.place < len(found.trials) else None

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out."""
        lang, trial = self.services.options.lang, self._trial
        if name in ("first", "second", "equal", "copy") and (trial is None or not trial.answered or self.fault):
            return say("blind.nothing_to_judge", lang)
        if name == "undo" and (self.comparison is None or self.place == 0 or self.fault):
            return say("blind.nothing_before", lang)
        if name == "again" and not self.fault and (self.comparison is None or not self.comparison.over):
            return say("blind.not_over", lang)
        return ""

    def _judge(self, better: Literal["A", "B", "="]) -> None:
        trial = self._trial
        if trial is not None and time.monotonic() - self._since >= LEAST_SECONDS:  # not a key that was pressed twice
            self._change(self.place, trial.judged(better))
            self._go(self.place + 1)
            self._generate()

    def _go(self, place: int) -> None:
        self.place, self.top, self._since = place, 0, time.monotonic()

    def do_first(self) -> None:
        """Prefers A."""
        self._judge("A")

    def do_second(self) -> None:
        """Prefers B."""
        self._judge("B")

    def do_equal(self) -> None:
        """Prefers neither."""
        self._judge("=")

    def do_undo(self) -> None:
        """Returns to the previous prompt."""
        self._go(self.place - 1)

    def do_again(self) -> None:
        """Begins another comparison with other prompts, or continues one that failed."""
        self._abandon()
        failed, self.fault = bool(self.fault), ""
        for model in self._models:
            if model.state.state == "ended":
                model.again()
        if failed and self.comparison is not None:
            self._begin(self.comparison)
        else:
            self.comparison = None
            self.prepare(again=not failed)

    def do_file(self) -> None:
        """Lets the user choose the file that the prompts are from."""
        files = self.comparison.files if self.comparison is not None else ()
        self.services.pick_path("test_file", files[0] if files else "", self._chosen)

    def _chosen(self, path: str) -> None:
        self._abandon()
        self.comparison, self.fault = None, ""
        self.prepare(path)

    def do_copy(self) -> None:
        """Copies the prompt and both replies."""
        trial = self._trial
        if trial is not None:
            a, b = trial.shown
            self.copy(f"{trial.prompt}\n\nA:\n{a}\n\nB:\n{b}")

    def move(self, by: int) -> None:
        """Scrolls both replies."""
        width, height = self.app.size
        self.top = max(0, min(self.top + by, blind_view.most_top(self._shown, width, height - 1)))

    @property
    def _shown(self) -> BlindView:
        fault, lang = safe(self.fault, 800), self.services.options.lang
        return BlindView(self.comparison, self.place, self.top, self.doing, fault, lang)

    def view(self, width: int, height: int) -> list[Line]:
        """The comparison."""
        return blind_view.draw(self._shown, width, height)
