"""The first screen: looks at the working folder in a thread, and carries out the next step."""

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.events import Key
from textual.worker import get_current_worker

from engine.contract.durable import free_bytes
from engine.contract.machine import other_gpus
from engine.contract.machine.host import HostReader
from engine.contract.texts import say
from sft_tui.found import Found
from sft_tui.next_steps import Step, next_steps
from sft_tui.screen import actions, here_view
from sft_tui.screen.base import SOURCE, CanvasScreen
from sft_tui.screen.bottom import DIGITS
from sft_tui.screen.here_view import HereView
from sft_tui.screen.ink import Line
from sft_tui.screen.with_run import WithRun
from sft_tui.text import size

if TYPE_CHECKING:
    from sft_tui.runs import Run

MODEL = "pretrained_model"  # setting
LOOK_SECONDS, NAP_SECONDS = 5.0, 0.1  # between two looks at the folder, and at whether to end
REACTION_SECONDS = 1.0  # within which a person may press the number of a step that is no longer shown


class HereScreen(WithRun, CanvasScreen):
    """What lies in the folder, and the next steps."""

    scope = actions.HERE

    def __init__(self) -> None:
        super().__init__()
        folder = os.getcwd()
        home = os.path.expanduser("~")
        shown = f"~{folder.removeprefix(home)}" if folder == home or folder.startswith(f"{home}{os.sep}") else folder
        self.state = HereView(shown)
        self._chosen = False  # whether a person has moved the cursor
        self._digit = 0  # that was pressed last
        self._earlier: list[tuple[float, tuple[Step, ...]]] = []  # steps that were shown before, and until when

    def on_screen_resume(self) -> None:
        """Looks at once: what was done meanwhile has changed what is next."""
        self._chosen = False
        self.state = replace(self.state, found=replace(self.state.found, reading=True), cursor=0)
        self.look()
        self.draw()

    def view(self, width: int, height: int) -> list[Line]:
        """The current state of the screen."""
        options = self.services.options
        return here_view.draw(replace(self.state, ink=options.ink, lang=options.lang), width, height)

    @work(thread=True, exclusive=True, group="here")
    def look(self) -> None:
        """Looks at the folder again and again while the screen is in front; shows the first look piece by piece."""
        from sft_tui import here  # what finds things is imported while the screen is already there

        worker, logs, found = get_current_worker(), self.services.options.logs, self.state.found
        host, first, unusable = HostReader(), True, other_gpus.unusable()
        while not worker.is_cancelled:
            if not self.in_front:
                time.sleep(NAP_SECONDS)
                continue
            for seen in here.scan(logs, replace(found, reading=False)):
                found = seen
                if worker.is_cancelled:
                    return
                if first or not found.reading:
                    self.app.call_from_thread(self._show, found, self._machine(host), unusable)
            first, looked = False, time.monotonic()
            while not worker.is_cancelled and (time.monotonic() - looked < LOOK_SECONDS or not self.in_front):
                time.sleep(NAP_SECONDS)

    def _machine(self, host: HostReader) -> str:
        """What is free of memory and disk; of a folder that was removed meanwhile nothing is known."""
        memory, disk = host.read([], Path()).memory_available, "-"
        with contextlib.suppress(OSError):
            disk = size(free_bytes(Path()))
        return say("here.machine", self.services.options.lang, memory=size(memory) if memory else "-", disk=disk)

    def _show(self, found: Found, machine: str, unusable: str) -> None:
        steps = tuple(next_steps(found))
        under = self.state.steps[self.state.cursor] if self._chosen and self.state.steps else None
        cursor = next((place for place, one in enumerate(steps) if _same(one, under)), 0)
        before = self.state
        if found == before.found:  # what the machine has free changes all the time: alone it is not worth a drawing
            machine = before.machine
        if steps != before.steps:
            self._earlier = [*self._lately, (time.monotonic(), before.steps)]
        self.state = replace(before, found=found, steps=steps, machine=machine, unusable=unusable, cursor=cursor)
        if not self.in_front:
            return
        if before.queued and not found.reading:
            self.state = replace(self.state, queued=False)
            self.try_to(lambda: self._carry_out(self.state.steps[0]))
        if self.state != before:
            self.draw()

    @property
    def _lately(self) -> list[tuple[float, tuple[Step, ...]]]:
        """The steps that were shown before, as long as a person may still mean them."""
        return [one for one in self._earlier if time.monotonic() - one[0] < REACTION_SECONDS]

    def move(self, by: int) -> None:
        """Moves the cursor over the steps."""
        self._chosen = True
        last = max(0, len(self.state.steps) - 1)
        self.state = replace(self.state, cursor=min(last, max(0, self.state.cursor + by)), queued=False)

    def do_go(self) -> None:
        """Carries out the step under the cursor; the first one as soon as it is known."""
        state = self.state
        if not self._chosen and (state.found.reading or not state.steps):
            self.state = replace(state, queued=True)
        else:
            self._carry_out(state.steps[state.cursor])

    def do_back(self) -> None:
        """Cancels a step that waits."""
        self.state = replace(self.state, queued=False)

    def on_key(self, event: Key) -> None:
        """As in the base class; which digit was pressed says which step is meant."""
        self._digit = int(event.key) if event.key in DIGITS else 0
        super().on_key(event)

    def do_choose(self) -> None:
        """Carries out the step whose number was pressed; without a number, the one under the cursor.

        If another step had that number until just now, the one that has it is only selected.
        """
        steps, lang = self.state.steps, self.services.options.lang
        place = self._digit - 1 if self._digit else self.state.cursor
        if place >= len(steps):
            if self.state.found.reading:
                self.show_notice(say("here.no_step_yet", lang, number=place + 1), "warn")
            return
        self._chosen = True
        self.state = replace(self.state, cursor=place, queued=False)
        shown = [before[place] for _, before in self._lately if place < len(before)]
        if self._digit and not all(_same(steps[place], one) for one in shown):
            self._earlier = []
            self.show_notice(say("here.step_changed", lang, number=self._digit), "warn")
        else:
            self._carry_out(steps[place])

    def clicked(self, x: int, y: int) -> None:
        """Moves the cursor to the step that was clicked; a click on the one under the cursor carries it out."""
        place = here_view.step_at(self.state, *self._room, x, y)
        if place < 0:
            return
        if place == self.state.cursor and self._chosen:
            self.try_to(self.do_go)
            return
        self._chosen = True
        self.state = replace(self.state, cursor=place)
        self.draw()

    @property
    def _room(self) -> tuple[int, int]:
        width, height = self.app.size
        return width, height - 1

    def _carry_out(self, step: Step) -> None:
        """Opens what a step needs, or starts it; raises InputError."""
        from sft_tui import chat_names, demo, starting

        services, subject = self.services, step.subject

        def resume(run: "Run") -> None:
            services.start_run(starting.plan_resume(run.record, {}))

        acts: dict[str, Callable[[], object]] = {
            "demo": lambda: services.begin_demo(demo.CHAT.last),
            "import": lambda: services.open_import(subject),
            "data": lambda: services.pick_path(SOURCE, "", services.open_import),
            "model": lambda: services.pick_path(MODEL, "", lambda path: services.open_model(path, step.files)),
            "learn": lambda: services.open_model(subject, step.files),
            "watch": lambda: services.open_run(subject),
            "resume": lambda: self.with_run(subject, resume),
            "talk": lambda: self.with_run(subject, lambda run: services.open_chat(chat_names.models_of(run), subject)),
            "test": lambda: self.with_run(subject, lambda run: services.start_run(starting.plan_test(run, {}))),
            "queue": services.open_queue,
            "launch": lambda: self.do("launch"),
        }
        acts[step.kind]()


def _same(one: Step, other: Step | None) -> bool:
    """Whether two steps are about the same, whatever is known of it now."""
    return other is not None and (one.kind, one.subject) == (other.kind, other.subject)
