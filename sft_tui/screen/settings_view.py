"""Settings as lines: which are listed, each with its value, what it is for, and what the check found about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from engine.contract.config import FIELDS, KINDS, RunConfig, applies, setting_of
from engine.contract.texts import LANGS, Lang, say
from sft_tui.options import setting_text, unit_text
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.report import SIGNS
from sft_tui.screen.ink import Line, columns, fit, tail
from sft_tui.text import number, safe
from sft_tui.wrapping import wrap

NAME, LEAST_NAME = 27, 12  # columns of a setting's name
LEAST_VALUE = 14  # columns of its value
UNIT = 8  # columns of a unit, if the line is long enough
MARK = 2  # columns before the name
ROLES = {"error": "bad", "warning": "warn", "ok": "good"}


@dataclass(frozen=True)
class SettingsView:
    """The settings of a run that is not started yet: those of its preset, and what was changed."""

    base: RunConfig = field(default_factory=RunConfig)
    config: RunConfig = field(default_factory=RunConfig)
    changed: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""  # of the model, once it is known
    lang: Lang = "en"

    def applies(self, name: str) -> bool:
        """Whether a setting affects the run."""
        return applies(name, self.config, self.family)

    def text(self, name: str) -> str:
        """The value of a setting."""
        return setting_text(name, getattr(self.config, name), self.lang)

    def was(self, name: str) -> str:
        """The preset's value of a changed setting, in brackets; empty for any other."""
        if name not in self.changed:
            return ""
        return say("screen.was", self.lang, value=setting_text(name, getattr(self.base, name), self.lang)).strip()


def summary(view: SettingsView) -> list[str]:
    """The settings that matter in most runs and affect this one, and all that were changed."""
    return [name for name in FIELDS if name in view.changed or (setting_of(name).essential and view.applies(name))]


def listed(view: SettingsView, query: str = "", *, everything: bool = False) -> list[str]:
    """The settings that affect the run or were changed; with words in `query`, all that contain each of them."""
    words = query.lower().replace("_", " ").split()
    if words:
        return [name for name in FIELDS if all(word in _searched(name) for word in words)]
    return [name for name in FIELDS if everything or name in view.changed or view.applies(name)]


def best(names: Sequence[str], query: str) -> str:
    """The setting that is meant most likely: the first whose name begins with the words, or has them."""
    words = "_".join(query.lower().split())
    if not words:
        return ""
    return next((name for name in names if name.startswith(words)), next((name for name in names if words in name), ""))


@cache
def _searched(name: str) -> str:
    rule = setting_of(name)
    parts = [text for lang in LANGS for text in (rule.help(lang), say(f"group.{rule.group}", lang))]
    return " ".join([name, *rule.choices, *parts]).replace("_", " ").lower()


def heading(group: str, lang: Lang) -> Line:
    """The title of a group."""
    return [(say(f"group.{group}", lang), "dim")]


def grouped(names: Sequence[str]) -> list[tuple[str, str]]:
    """Settings as pairs of group and name; before the first of each group a pair without a name."""
    rows: list[tuple[str, str]] = []
    for name in names:
        group = setting_of(name).group
        rows += [(group, "")] if not rows or rows[-1][0] != group else []
        rows.append((group, name))
    return rows


def line(view: SettingsView, name: str, width: int, *, role: str = "") -> Line:
    """A setting: a star if it was changed, its name, and at the right end what it was if that fits, and its value."""
    column = min(len(name), NAME if width >= MARK + NAME + LEAST_VALUE else max(LEAST_NAME, width - MARK - LEAST_VALUE))
    room = max(0, width - MARK - column - 1)
    changed, dead = name in view.changed, not view.applies(name)
    named = role or ("dim" if dead else "head" if setting_of(name).essential else "")
    value = _value(view, name, room, in_columns=width >= MARK + NAME + 1 + LEAST_VALUE + UNIT)
    left = room - columns([(value, "")])
    was = view.was(name)  # whole or not at all: a piece of it says nothing
    was = f"{was} " if was and columns([(was, "")]) < left else ""
    mark = "*" if changed else "-" if dead else " "
    shown: Line = [(f"{mark} ", "accent" if changed else "dim"), *fit([(name, named)], column), (" ", "")]
    gap = left - columns([(was, "")])
    shown += [(" " * gap, ""), (was, "dim"), (value, _value_role(changed, dead))]
    return fit(shown, width)


def _value_role(changed: bool, dead: bool) -> str:
    return "accent" if changed else "dim" if dead else ""


def _value(view: SettingsView, name: str, room: int, *, in_columns: bool) -> str:
    """The value with its unit, numbers in a column of their own if there is room."""
    value, words = getattr(view.config, name), view.text(name)
    behind = unit_text(name, value, view.lang)
    if KINDS[name] is not str and setting_of(name).special(value, view.lang):
        number_alone = number(value)
        if columns([(words, "")]) > room:
            words = number_alone
        elif in_columns and columns([(words, "")]) <= columns([(number_alone, "")]) + UNIT:  # in place of a unit
            words, behind = number_alone, words[len(number_alone) :]
        else:
            in_columns = False
    if KINDS[name] is str or not in_columns:
        return tail(words + behind, room)
    return tail(words, room - UNIT) + "".join(text for text, _ in fit([(behind, "")], UNIT))


def allowed(name: str) -> str:
    """The range of a number; empty without one."""
    rule = setting_of(name)
    low = "" if rule.low is None else f"{'>' if rule.low_open else '≥'} {rule.low:g}"
    high = "" if rule.high is None else f"≤ {rule.high:g}"
    return ", ".join(filter(None, (low, high)))


def about(view: SettingsView, name: str, findings: Sequence[Finding], width: int) -> list[Line]:
    """What a setting is for, what it may be, whether it affects the run, and what the check found about it."""
    lang, rule = view.lang, setting_of(name)
    lines: list[Line] = [[(part, "head")] for part in wrap(name, width)]
    lines += [[(part, "")] for part in wrap(rule.help(lang), width)]
    facts = [rule.unit_in(lang), ", ".join(rule.choices) or allowed(name), view.was(name)]
    lines += [[(part, "dim")] for part in wrap(" · ".join(filter(None, facts)), width) if part]
    if not view.applies(name):
        lines += [[(part, "warn")] for part in wrap(say("settings.no_effect", lang), width)]
    for finding in findings:
        if finding.subject == name:
            lines += [[], *_found(finding, width, lang)]
    return lines


def _found(finding: Finding, width: int, lang: Lang) -> list[Line]:
    first, *more = wrap(f"{SIGNS[finding.level]} {safe(finding.what(lang), 800)}", width)
    lines: list[Line] = [[(first, ROLES[finding.level])], *([(part, "")] for part in more)]
    if finding.level != "ok":
        lines += [[(part, "dim")] for part in wrap(safe(finding.why(lang), 400), width) if part]
    return lines
