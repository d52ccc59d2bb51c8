"""All settings of a run before it starts: found by name, changed in place, with what they amount to next to them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rich.text import Text
from textual.containers import Container, Vertical, VerticalScroll
from textual.events import Key, Resize
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.contract.config import FIELDS, check_value, names_in, parts_of, setting_of
from engine.contract.messages import InputError
from engine.contract.texts import Lang, say
from sft_tui.options import parse
from sft_tui.screen import actions, launch_view, meaning, settings_view
from sft_tui.screen.editor import LineInput
from sft_tui.screen.form_screen import FormScreen
from sft_tui.screen.form_style import styled
from sft_tui.screen.ink import Line
from sft_tui.screen.preset_keys import Draft, PresetKeys
from sft_tui.screen.setting_editor import PARTS, SettingEditor
from sft_tui.screen.settings_view import SettingsView
from sft_tui.text import number, safe
from sft_tui.wrapping import wrap

NARROW = 92  # columns; with fewer, the two texts are below the list
WHILE_OPEN = ("edit", "type", "mark", "back", "language", "theme", "suspend", "up", "down", "quit")


class SettingsScreen(FormScreen, PresetKeys):
    """The list of settings with a search above it; what they mean, and the help of the one under the cursor."""

    scope = actions.SETTINGS
    CSS = """
    SettingsScreen #left { width: 3fr; height: 1fr; layers: base editor; }
    SettingsScreen #right { width: 2fr; height: 1fr; }
    SettingsScreen #meaning { height: auto; max-height: 60%; }
    SettingsScreen #about { height: 1fr; }
    SettingsScreen SettingEditor { border: $ink-border $ink-accent; }
    SettingsScreen #find { padding: 0 2; }
    SettingsScreen .narrow { layout: vertical; }
    SettingsScreen .narrow #left { width: 1fr; height: 3fr; }
    SettingsScreen .narrow #right { width: 1fr; height: 2fr; layout: horizontal; }
    SettingsScreen .narrow #meaning { width: 1fr; height: 1fr; max-height: 100%; }
    SettingsScreen .narrow #about { width: 1fr; height: 1fr; }
    """

    def __init__(self, draft: Draft, setting: str = "") -> None:
        super().__init__()
        self._draft, self._begin = draft, setting
        self._everything = False
        self._names: list[str] = []
        self._drawn: dict[str, Line] = {}
        self._texts: dict[str, list[Line]] = {}
        self._clicked, self._found = "", ""
        self.find = LineInput(id="find", select_on_focus=False)
        self.list = OptionList(id="settings", classes="framed")
        self.value = SettingEditor()
        self.meaning, self.about_it = Static(id="meant"), Static(id="help")

    @property
    def draft(self) -> Draft:
        """The run that is not started yet."""
        return self._draft

    @property
    def lang(self) -> Lang:
        """The language of the screen."""
        return self.services.options.lang

    @property
    def view(self) -> SettingsView:
        """The settings as they are now."""
        return replace(self.draft.state.settings, lang=self.lang)

    def heading(self) -> Line:
        """The preset, and what learns of its model."""
        title = say("settings.title", self.lang, preset=safe(self.draft.state.preset))
        said = meaning.learning(self.draft.state.report, 1 << 10, self.lang)
        return [(" sft-tui", "head"), (" · ", "dim"), (title, "head"), *([(" · ", "dim"), *said[0]] if said else [])]

    def body(self) -> Iterable[Widget]:
        """The list with its search and its editor, and the two texts."""
        left = Vertical(self.find, self.list, self.value, id="left")
        means = VerticalScroll(self.meaning, id="meaning", classes="framed")
        helps = VerticalScroll(self.about_it, id="about", classes="framed")
        yield Container(left, Vertical(means, helps, id="right"), id="halves", classes="columns")

    def first_focus(self) -> Widget | None:
        """The list."""
        return self.list

    def on_mount(self) -> None:
        """Follows the check, and fills the list."""
        self.draft.watcher = self.show_changes
        self._label()
        self._fill(self._begin)  # at once: the next key is for this setting

    def on_unmount(self) -> None:
        """Stops following the check."""
        self.draft.watcher = None

    def on_resize(self, _event: Resize) -> None:
        """Draws everything for the new size."""
        self.query_one("#halves").set_class(self.app.size.width < NARROW, "narrow")
        self.call_after_refresh(self._draw_again)

    def relabel(self) -> None:
        """Takes over another language or theme."""
        self._label()
        self._draw_again()
        self.draw()

    def _label(self) -> None:
        self.query_one("#meaning").border_title = say("screen.meaning", self.lang)
        self.query_one("#about").border_title = say("settings.about", self.lang)
        self.list.border_title = say("screen.settings", self.lang)
        self.find.placeholder = f"/ {say('settings.find', self.lang)}"

    def _draw_again(self) -> None:
        self._drawn, self._texts = {}, {}
        self._fill(self.current if self._names else self._begin, whole=True)
        if self.value.mode:
            self._place_editor()

    def show_changes(self) -> None:
        """Shows what has changed: settings, what they amount to, and what the check has found."""
        self._fill(self.current)
        self.draw()

    # --- the list

    @property
    def current(self) -> str:
        """The setting under the cursor; empty without one."""
        option = self.list.highlighted_option
        return option.id or "" if option is not None else ""

    def _fill(self, current: str = "", *, whole: bool = False) -> None:
        """Lists the settings that are searched for; of a list that stays the same, only changed lines are drawn."""
        view = self.view
        width = (self.list.content_size.width or self.app.size.width) - 1  # until it has a size, which draws it again
        if width < 1:
            return
        names = self._listed()
        lines = {name: settings_view.line(view, name, width) for name in names}
        ink = self.services.options.ink
        if names == self._names and not whole:
            for name in names:
                if lines[name] != self._drawn.get(name):
                    self.list.replace_option_prompt(name, styled(lines[name], ink))
        else:
            self.list.set_options(self._option(group, name, lines) for group, name in settings_view.grouped(names))
            self._names = names
        if self.current != current or not current:
            self._point_at(current if current in names else names[0] if names else "")
        self._drawn = lines
        count = {"shown": len(names), "all": len(FIELDS)}
        more = {"changed": len(view.changed)} if view.changed else {}
        self.list.border_subtitle = say(f"settings.count{'_changed' * bool(more)}", self.lang, **count, **more)
        self._show_texts()

    def _listed(self) -> list[str]:
        return settings_view.listed(self.view, self.find.value, everything=self._everything)

    def _option(self, group: str, name: str, lines: Mapping[str, Line]) -> Option:
        """A setting, or without a name the title of a group."""
        line = lines[name] if name else settings_view.heading(group, self.lang)
        return Option(styled(line, self.services.options.ink), id=name or None, disabled=not name)

    def _point_at(self, name: str) -> None:
        self.list.highlighted = self.list.get_option_index(name) if name else None

    def move(self, by: int) -> None:
        """Moves the cursor, also while something is searched for."""
        if self.value.mode or not self._names:
            return
        place = self._names.index(self.current) if self.current else 0
        self._point_at(self._names[min(len(self._names) - 1, max(0, place + by))])

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Shows the help of the setting under the cursor."""
        if event.option_list is self.list:
            self._show_texts()
            self.draw()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Changes a setting that is clicked twice; takes a choice that is clicked."""
        event.stop()
        if event.option_list is self.value.list:
            self.do_mark() if self.value.mode == PARTS and not self.value.other_chosen else self.do_edit()
        elif self.value.mode or event.option_id == self._clicked:
            self.do("edit")
        self._clicked = event.option_id or ""

    def on_input_changed(self, event: Input.Changed) -> None:
        """Lists what is searched for; an error below a text goes when the text is changed."""
        event.stop()
        if event.input is self.find:
            self._search()
        elif self.value.error.display and not self.value.text.waiting:
            self.value.refuse("")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Takes the value that was typed."""
        event.stop()
        if self.value.mode:
            self._take(self.value.setting, event.value)

    def _search(self) -> None:
        if self.find.value != self._found:
            self._found = self.find.value
            self._fill(settings_view.best(self._listed(), self.find.value) or self.current)

    # --- the two texts

    def _show_texts(self) -> None:
        state = self.draft.state
        known = meaning.Meaning(state.config, state.processes, state.report, state.findings, self.lang)
        width = self.meaning.content_size.width - 1
        lines = meaning.draw(known, width) if width > 0 else []
        if state.doing:
            lines.append([(f"… {state.doing}", "dim")])
        if state.last:
            lines += [[(part, "accent")] for part in wrap(launch_view.last_offer(state.last, self.lang), max(1, width))]
        self._put(self.meaning, lines, width)
        width = self.about_it.content_size.width - 1
        if self.current and width > 0:
            lines = settings_view.about(self.view, self.current, state.findings, width)
        else:
            lines = [[(say("settings.no_match", self.lang, words=safe(self.find.value, 40)), "dim")]]
        self._put(self.about_it, lines, width)

    def _put(self, place: Static, lines: list[Line], width: int) -> None:
        if width > 0 and self._texts.get(place.id or "") != lines:
            self._texts[place.id or ""] = lines
            ink = self.services.options.ink
            place.update(Text("\n").join(styled(line, ink) for line in lines))

    # --- keys

    def why_disabled(self, name: str) -> str:
        """Why an action cannot be carried out now."""
        if self.value.mode and name not in WHILE_OPEN:
            return say("settings.take", self.lang)
        if name == "mark":
            return "" if self.value.mode == PARTS else say("settings.take_parts", self.lang)
        if name in ("edit", "type") and not self.current:
            return say("settings.no_match", self.lang, words=safe(self.find.value, 40))
        if name == "reset" and self.current not in self.draft.state.values:
            return say("screen.nothing_to_reset", self.lang)
        return self.why_no_preset_key(name)

    @property
    def footer_labels(self) -> Mapping[str, str]:
        """What enter does while a value is given."""
        return {"edit": say("settings.footer_take", self.lang)} if self.value.mode else {}

    def on_key(self, event: Key) -> None:
        """As in the base class, but ctrl+c closes the editor, and no character is lost before a text has the focus."""
        if self.passed_on(event):
            return
        place = self.focused
        if self.question is None and isinstance(place, LineInput) and place.take(event):  # on its way to the list
            event.stop()
            event.prevent_default()
        elif self.value.mode and event.key == "ctrl+c":
            event.stop()
            event.prevent_default()
            self._close_editor()
        else:
            super().on_key(event)

    @property
    def typing(self) -> bool:
        """As in the base class; a value that is being chosen counts too."""
        return super().typing or bool(self.value.mode)

    def do_search(self) -> None:
        """Moves to the search."""
        self.set_focus(self.find)

    def do_everything(self) -> None:
        """Shows or hides the settings that have no effect now."""
        self._everything = not self._everything
        self._fill(self.current)

    def do_edit(self) -> None:
        """Takes the value that is being given, or lets the one under the cursor be changed."""
        self._search()  # the latest characters may not have been searched for
        if not self.value.mode and not self.current:
            self.show_notice(self.why_disabled("edit"), "warn")
        elif self.value.mode and not self.value.other_chosen:
            self._take(self.value.setting, self.value.typed)
        elif self.value.mode:
            self.do_type()
        elif setting_of(self.current).path:
            self._pick(self.current)
        elif setting_of(self.current).choices or self._parts(self.current):
            self._choose(self.current)
        else:
            self.do_type()

    def do_type(self) -> None:
        """Edits the value as a text."""
        name = self.value.setting if self.value.mode else self.current
        value = getattr(self.draft.state.config, name)
        text = number(value) if value != "" else ""
        self.value.begin_line(name, text, is_path=setting_of(name).path, hint=say("settings.take", self.lang))
        self._place_editor()

    def do_mark(self) -> None:
        """Marks the part under the cursor."""
        self.value.mark()

    def do_reset(self) -> None:
        """Restores the preset's value."""
        values = self.draft.state.values
        self._take_values({name: value for name, value in values.items() if name != self.current})

    def do_back(self) -> None:
        """Closes the editor, then the search, then the screen."""
        if self.value.mode:
            self._close_editor()
        elif self.find.value or self.find.has_focus:
            self.find.value = ""
            self.set_focus(self.list)
        else:
            self.services.back()

    # --- the editor

    def _parts(self, name: str) -> tuple[str, ...]:
        return parts_of(name, self.view.config, self.view.family)

    def _choose(self, name: str) -> None:
        value, ink = str(getattr(self.draft.state.config, name)), self.services.options.ink
        parts = self._parts(name)
        if not parts:
            hint = say("settings.take", self.lang)
            self.value.begin_list(name, setting_of(name).choices, value, None, hint=hint, ink=ink)
        else:
            marked = names_in(value)
            choices = [*parts, *(part for part in marked if part not in parts), say("settings.other", self.lang)]
            hint = say("settings.take_parts", self.lang)
            self.value.begin_list(name, choices, choices[0], set(marked), hint=hint, ink=ink)
        self._place_editor()

    def _pick(self, name: str) -> None:
        current = str(getattr(self.draft.state.config, name))
        self.services.pick_path(name, current, lambda path: self.try_to(lambda: self._set(name, path)))

    def _place_editor(self) -> None:
        place = self.list.get_option_index(self.value.setting)
        row = self.list.region.y - self.find.region.y + 1 + place - round(self.list.scroll_y)
        self.value.place(row, self.query_one("#left").size.height)
        self.draw()

    def _close_editor(self) -> None:
        self.value.close()
        self.set_focus(self.list)
        self.notice = ("", "")
        self.draw()

    def _take(self, name: str, typed: str) -> None:
        """Takes a value; one that is refused stays in the editor, with the reason below it."""
        try:
            self._set(name, typed)
        except InputError as error:
            words = error.message.text(self.lang)
            if self.value.mode == PARTS:
                self.show_notice(words, "bad")
            self.value.refuse(words)
        else:
            self._close_editor()

    def _set(self, name: str, typed: str) -> None:
        value = parse(name, typed)
        check_value(name, value)
        self._take_values({**self.draft.state.values, name: value})

    def _take_values(self, values: Mapping[str, Any]) -> None:
        self.draft.take_values(values)
        self.show_changes()
