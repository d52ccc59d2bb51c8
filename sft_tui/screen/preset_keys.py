"""The keys of the two screens before a run for its preset: save, delete, the last values, and the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from engine.contract.config import FIELDS
from engine.contract.presets import HERE, SUFFIX, built_in, own_files, preset, remove, save
from engine.contract.texts import say
from sft_tui import starting
from sft_tui.options import options_text
from sft_tui.preflight.fix import Start, command_of
from sft_tui.screen.base import ActionScreen
from sft_tui.screen.bottom import Question
from sft_tui.screen.launch_view import LaunchView
from sft_tui.text import safe

LONGEST = 4000  # characters of a command line that is shown


class Draft(Protocol):
    """A run that is not started yet: its preset, the settings over it, and what the check says of them."""

    state: LaunchView
    watcher: Callable[[], None] | None  # called when the state has changed

    def choose(self, name: str, values: dict[str, Any] | None = None) -> None:
        """Selects a preset, with settings that override its own."""

    def take_values(self, values: Mapping[str, Any]) -> None:
        """Takes other settings over those of the preset, and checks them."""

    def refresh_presets(self) -> None:
        """Reads the presets again."""


class PresetKeys(ActionScreen):
    """A screen that shows a draft."""

    @property
    def draft(self) -> Draft:
        """The run that is not started yet."""
        raise NotImplementedError

    @property
    def _own_file(self) -> Path | None:
        """The file of the preset if it is one of the user's own, as far as is known: the footer asks for each key."""
        known = self.draft.state.presets.get(self.draft.state.preset)
        return known.file if known is not None else None

    def why_no_preset_key(self, name: str) -> str:
        """Why one of these actions cannot be carried out; empty if it can."""
        lang, state = self.services.options.lang, self.draft.state
        if name == "last" and not state.last:
            return say("screen.no_last_values", lang)
        if name == "save" and not state.values:
            return say("screen.nothing_to_save", lang, preset=state.preset)
        if name == "delete" and self._own_file is None:
            return say("screen.not_own", lang, preset=state.preset)
        return ""

    def do_last(self) -> None:
        """Takes over the settings of the last run of this preset."""
        state, lang = self.draft.state, self.services.options.lang
        names = say("list.separator", lang).join(state.last)
        self.draft.take_values({**state.values, **state.last})
        self.show_notice(say("screen.last_taken", lang, names=names))

    def do_save(self) -> None:
        """Asks for the name of a preset of these settings."""
        state = self.draft.state
        typed = state.preset if state.preset in own_files() else ""
        self.ask(Question(say("screen.ask_save", self.services.options.lang), self._save_as, typed=typed))

    def _save_as(self, name: str) -> None:
        name = name.strip()
        path = HERE / f"{name}{SUFFIX}"
        if name not in built_in() and name in own_files() and path.exists():
            ask = say("screen.ask_replace", self.services.options.lang, path=safe(str(path)))
            self.ask(Question(ask, lambda key: self._save(name, replaces=True) if key == "y" else None))
        else:
            self._save(name, replaces=False)

    def _save(self, name: str, *, replaces: bool) -> None:
        state = self.draft.state
        parent, values, words = state.preset, dict(state.values), ""
        if name == parent:  # what it already changes stays
            mine = preset(name)
            parent, values, words = mine.parent, {**mine.changes(), **values}, mine.help
        ordered = {key: values[key] for key in FIELDS if key in values}
        path = save(name, parent, ordered, HERE, words=words, replaces=replaces)
        self.draft.refresh_presets()
        self.draft.choose(name)
        self.show_notice(say("screen.preset_saved", self.services.options.lang, path=safe(str(path))))

    def do_delete(self) -> None:
        """Deletes this preset of one's own after a question."""
        name, path = self.draft.state.preset, self._own_file
        ask = say("screen.ask_delete_preset", self.services.options.lang, path=safe(str(path)))
        self.ask(Question(ask, lambda key: self._delete(name) if key == "y" else None))

    def _delete(self, name: str) -> None:
        parent = preset(name).parent
        path = remove(name)
        self.draft.choose(parent)
        self.draft.refresh_presets()
        self.show_notice(say("app.preset_removed", self.services.options.lang, path=safe(str(path))))

    def do_command(self) -> None:
        """Shows the command line of this run, which `y` copies."""
        words = self.command_line()
        ask = say("screen.ask_copy_command", self.services.options.lang, command=safe(words, LONGEST))
        self.ask(Question(ask, lambda _: self.copy(words), keys="y"))

    def command_line(self) -> str:
        """The command line that starts this run."""
        state, logs = self.draft.state, self.services.options.logs
        shown = command_of([Start(state.preset, state.values)])
        return shown if logs == starting.DEFAULT_LOGS else shown + options_text({"logs": logs})
