"""The screen before a run, as a pure function: presets, problems, settings, and what the settings amount to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.contract.config import RunConfig, setting_of
from engine.contract.presets import Preset, presets
from engine.contract.texts import Lang, say
from sft_tui.demo import STORIES
from sft_tui.found import Progress
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.report import SIGNS, subject
from sft_tui.screen import meaning, settings_view
from sft_tui.screen.ink import Ink, Line, columns, filled, fit, frame, side_by_side
from sft_tui.screen.settings_view import ROLES, SettingsView
from sft_tui.text import number, safe
from sft_tui.wrapping import wrap, wrapped

PANELS = ("presets", "findings", "settings")
WIDE, TALL = 100, 30
MOST_LAST = 4  # settings named in the offer of the last values
FULL = 99  # lines of a finding that is shown in full
LEAST_WORDS = 24  # columns; with less room, a finding is shown below its subject


@dataclass(frozen=True)
class Resumable:
    """An unfinished run in a preset's output folder."""

    run: str
    step: int
    steps_total: int
    alive: bool = False


@dataclass(frozen=True)
class LaunchView:
    """The state that the screen shows."""

    preset: str
    presets: Mapping[str, Preset] = field(default_factory=presets)
    values: Mapping[str, Any] = field(default_factory=dict)  # overriding the preset's
    config: RunConfig = field(default_factory=RunConfig)
    report: Report | None = None
    outdated: bool = False  # the report is about other settings than these, and a check of these has begun
    doing: str = ""  # what is being read, before there is a report
    panel: str = "presets"
    finding: int = 0
    setting: int = 0  # among those of `summary`
    last: Mapping[str, Any] = field(default_factory=dict)  # the values of the preset's last run that it lacks now
    based_on: str = ""  # the run that the values are from
    resumable: Mapping[str, Resumable] = field(default_factory=dict)
    processes: int = 1
    offer_demo: bool = False  # if there is no run here yet; not shown once values are chosen
    demos: Mapping[str, Progress] = field(default_factory=dict)  # by the presets that they end with
    task: str = ""  # the command that runs in the background
    queued: bool = False  # the run starts when the check is done
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def findings(self) -> list[Finding]:
        """The findings so far, without those on files that the demo is about to write."""
        found = self.report.findings if self.report else []
        unmade = self.continues_demo and self.demo.stage in ("new", "first")
        return [one for one in found if one.code != "file_missing"] if unmade else found

    @property
    def settings(self) -> SettingsView:
        """The settings of the chosen preset."""
        base = self.presets[self.preset].config if self.preset in self.presets else self.config
        return SettingsView(base, self.config, self.values, self.report.family if self.report else "", self.lang)

    @property
    def summary(self) -> list[str]:
        """The settings of the panel: the few that matter, and those that were changed."""
        return settings_view.summary(self.settings)

    @property
    def cursor(self) -> int:
        """The setting under the cursor, among those of `summary`."""
        return min(self.setting, len(self.summary) - 1)

    @property
    def continues_demo(self) -> bool:
        """Whether enter starts or continues a whole demo."""
        return self.preset in STORIES and not self.values and self.demo.stage != "done"

    @property
    def demo(self) -> Progress:
        """How far the demo of the chosen preset is."""
        return self.demos.get(self.preset, Progress("new", False))


@dataclass(frozen=True)
class PanelLayout:
    """Where the four panels meet: columns of the left ones, lines of the upper and the lower ones."""

    left: int
    upper: int
    half: int
    lower: int

    @classmethod
    def of(cls, panel: str, width: int, height: int) -> "PanelLayout":
        """The layout of a screen without its footer; on a small one the settings get more room while focused."""
        if width >= WIDE and height >= TALL:
            lower = max(6, (height - 1) // 3)
            return cls(34, height - 1 - lower, width // 2, lower)
        lower = min(10 if panel == "settings" else 8, max(2, (height - 1) // 2))
        return cls(24 if width >= 72 else 20, height - 1 - lower, width * 11 // 20, lower)


def draw(view: LaunchView, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly the given lines and columns."""
    title: Line = [(" sft-tui", "head"), (" · ", "dim"), (say("screen.launch", view.lang), "dim")]
    if view.report is not None and view.report.learning is not None:
        learning = (safe(view.report.learning.text(view.lang)), "head")
        title = [*title[:2], learning]
        title = title if columns(title) <= width else [(" ", ""), learning]
    elif view.offer_demo and not view.values:
        title = [*title[:2], (say("screen.demo_offer", view.lang), "accent")]
    at = PanelLayout.of(view.panel, width, height)
    top = side_by_side(_presets(view, at.left, at.upper), _findings(view, width - at.left, at.upper))
    bottom = side_by_side(_settings(view, at.half, at.lower), _meaning(view, width - at.half, at.lower))
    return filled([fit(title, width), *top, *bottom], width, height)


def item_at(view: LaunchView, width: int, height: int, x: int, y: int) -> tuple[str, int]:
    """The panel, and the index of its item, at a position of the screen; -1 for none of the items."""
    at = PanelLayout.of(view.panel, width, height)
    if y > at.upper:
        line, room = y - at.upper - 2, at.lower - 2
        items = _around(_setting_items(view, at.half - 4), view.cursor, room)
        inside = x < at.half and 0 <= line < len(items)
        return "settings", items[line][0] if inside else -1
    line, room = y - 2, at.upper - 2
    if x < at.left:
        items = _shown(_preset_items(view, at.left - 4, room), list(view.presets).index(view.preset), room)
        panel = "presets"
    else:
        panel, items = "findings", _shown(_finding_items(view, width - at.left - 4, room), view.finding, room)
    return panel, items[line][0] if 0 <= line < len(items) else -1


Item = tuple[int, Line]  # a line, and the index of its item in the panel


def _shown(items: list[Item], cursor: int, room: int) -> list[Item]:
    """The lines that fit, with all of the item under the cursor if possible."""
    places = [place for place, (owner, _) in enumerate(items) if owner == cursor] or [0]
    above = places[0] - 1 if cursor else 0  # lines above the first item belong to all of them
    first = max(0, min(places[-1] + 2 - room, above), min(above, len(items) - room))
    first = min(first, max(0, len(items) - room))
    return items[first : first + room]


def _around(items: list[Item], cursor: int, room: int) -> list[Item]:
    """The lines that fit, with the one of the cursor in their middle if the ends allow it."""
    place = next((place for place, (owner, _) in enumerate(items) if owner == cursor), 0)
    first = max(0, min(place - room // 2, len(items) - room))
    return items[first : first + room]


def _marks(items: list[Item], shown: list[Item]) -> Line:
    """How many lines are above and below those that are shown."""
    first = next((place for place, item in enumerate(items) if shown and item is shown[0]), 0)
    above, below = first, len(items) - first - len(shown)
    parts = [f"↑ {above}" if above else "", f"↓ {below}" if below else ""]
    return [(" ".join(filter(None, parts)), "dim")] if above or below else []


def _title(key: str, panel: str, view: LaunchView) -> Line:
    return [(say(key, view.lang), "accent" if view.panel == panel else "head")]


def _presets(view: LaunchView, width: int, height: int) -> list[Line]:
    items = _preset_items(view, width - 4, height - 2)
    shown = _shown(items, list(view.presets).index(view.preset), height - 2)
    title = _title("screen.presets", "presets", view)
    return frame(title, [line for _, line in shown], width, height, _marks(items, shown))


def _preset_items(view: LaunchView, width: int, room: int) -> list[Item]:
    """Each preset with its purpose: in full for the one under the cursor, for the others as much as fits."""
    count = len(view.presets)
    for most, generous in ((4, count), (2, count), *((1, first) for first in range(count, -1, -1))):
        items = _preset_lines(view, width, most, generous)
        if len(items) <= room:
            break
    return items


def _preset_lines(view: LaunchView, width: int, most: int, generous: int) -> list[Item]:
    """The presets, the first `generous` of them with `most` lines on what they are for."""
    items: list[Item] = []
    for place, (name, entry) in enumerate(view.presets.items()):
        chosen = name == view.preset
        role = "select" if chosen and view.panel == "presets" else "head" if chosen else ""
        sign = "▸ " if chosen else "· " if entry.file else "  "
        items.append((place, fit([(sign, "accent"), (name, role)], width, role if chosen else "")))
        summary = wrapped(_about(entry, view.lang), width - 4, 9 if chosen else most * (place < generous))
        items += [(place, [(f"    {part}", "dim")]) for part in summary]
        going = view.resumable.get(name)
        if going is not None:
            percent = 100 * going.step // max(1, going.steps_total)
            key = "screen.running" if going.alive else "screen.resumable"
            shown = say(key, view.lang, run=safe(going.run, 24), step=going.step, percent=percent)
            items += [(place, [(f"    {part}", "warn")]) for part in wrap(shown, width - 4)]
    return items


def _about(entry: Preset, lang: Lang) -> str:
    """What a preset is for; one's own also by what it changes."""
    if not entry.file:
        return entry.summary(lang)
    changes = [f"{name} {number(value)}" for name, value in entry.changes().items()]
    return " · ".join([safe(entry.summary(lang)), *changes])


def _findings(view: LaunchView, width: int, height: int) -> list[Line]:
    title = [*_title("screen.ready", "findings", view), (f" {view.preset}", "dim")]
    items = _finding_items(view, width - 4, height - 2)
    shown = _shown(items, view.finding, height - 2)
    marks = _marks(items, shown)
    note = [*marks, ("  ", ""), *_counts(view)] if marks else _counts(view)
    return frame(title, [line for _, line in shown], width, height, note)


def _finding_items(view: LaunchView, width: int, room: int) -> list[Item]:
    """What is in progress, and each finding: in full if all fit, else in brief except for the cursor's."""
    lang = view.lang
    head: list[Item] = []
    if view.continues_demo:
        stage = f"new_{view.preset}" if view.demo.stage == "new" else view.demo.stage
        key = "runs" if view.demo.runs else stage
        head += [(-1, [(part, "accent")]) for part in wrap(say(f"screen.demo_{key}", lang), width)]
    if view.task:
        words = wrap(f"… {say('screen.task', lang, command=safe(view.task, 200))}", width)
        head += [(-1, [(part, "accent")]) for part in words]
    if view.queued:
        head.append((-1, [(say("screen.queued", lang), "accent")]))
    if view.doing:
        head.append((-1, [(f"… {view.doing}", "dim")]))
    column = min(18, max((columns([(subject(f.subject, lang), "")]) for f in view.findings), default=0))
    for most in (FULL, 8, 6, 5, 4, 3):
        items = list(head)
        for place, finding in enumerate(view.findings):
            here = view.panel == "findings" and place == view.finding
            lines = _finding(finding, column, width, lang, here=here, most=FULL if here else most)
            items += [(place, line) for line in lines]
        if len(items) <= room:
            break
    return items


def _finding(finding: Finding, column: int, width: int, lang: Lang, *, here: bool, most: int) -> list[Line]:
    """A finding with its sign; for a problem also its remedy, and its reason if there is room.

    Its words take at most `most` lines, those of one that is in order two fewer.
    """
    full = most == FULL
    role = ROLES[finding.level]
    beneath = width - column - 4 < LEAST_WORDS
    indent = 4 if beneath else column + 4
    room = max(10, width - indent)
    most = most if full or finding.level != "ok" else most - 2
    words = wrapped(safe(finding.what(lang), 800), room, most)
    head: Line = [
        (f"{SIGNS[finding.level]} ", role),
        *fit([(subject(finding.subject, lang), "select" if here else role if finding.level != "ok" else "")], column),
        ("  ", ""),
    ]
    lines: list[Line] = [head] if beneath else [[*head, (words[0], "")]]
    lines += [[(" " * indent + part, "")] for part in words[0 if beneath else 1 :]]
    if finding.level == "ok":
        return lines
    if full:
        lines += [[(" " * indent + part, "dim")] for part in wrap(safe(finding.why(lang), 400), room) if part]
    if finding.command:
        several = say("screen.ways", lang, count=len(finding.ways)) if len(finding.ways) > 1 else ""
        shown = wrapped(several + safe(finding.command, 800), room - 2, most if full else 1)
        lines.append([(" " * indent, ""), ("f ", "key"), (shown[0], "accent")])
        lines += [[(" " * (indent + 2) + part, "accent")] for part in shown[1:]]
    else:
        lines += [[(" " * indent + part, "dim")] for part in wrapped(safe(finding.fix(lang), 600), room, most)]
    return lines


def _counts(view: LaunchView) -> Line:
    if view.report is None or view.doing:
        return [(say("screen.checking", view.lang), "dim")]
    errors, warnings = (sum(one.level == level for one in view.findings) for level in ("error", "warning"))
    if errors:
        return [(f"✗ {errors}" + (f"  ! {warnings}" if warnings else ""), "bad")]
    return [(f"! {warnings}", "warn")] if warnings else [(f"✓ {say('screen.all_good', view.lang)}", "good")]


def _settings(view: LaunchView, width: int, height: int) -> list[Line]:
    items = _setting_items(view, width - 4)
    shown = _around(items, view.cursor, height - 2)
    title = _title("screen.settings", "settings", view)
    return frame(title, [line for _, line in shown], width, height, _marks(items, shown))


def _setting_items(view: LaunchView, width: int) -> list[Item]:
    """The few settings that matter and those that were changed, by group; before them the offer of the last values."""
    items: list[Item] = []
    if view.last:
        items += [(-1, [(part, "accent")]) for part in wrapped(last_offer(view.last, view.lang), width, 2)]
    place = -1
    for group, name in settings_view.grouped(view.summary):
        if not name:
            items.append((-1, settings_view.heading(group, view.lang)))
            continue
        place += 1
        role = "select" if view.panel == "settings" and place == view.cursor else ""
        items.append((place, settings_view.line(view.settings, name, width, role=role)))
    return items


def last_offer(last: Mapping[str, Any], lang: Lang) -> str:
    """The offer to take over the settings of a preset's last run, by name."""
    names = [*list(last)[:MOST_LAST], *(["…"] if len(last) > MOST_LAST else [])]
    return say("screen.last_values", lang, names=say("list.separator", lang).join(names))


def _meaning(view: LaunchView, width: int, height: int) -> list[Line]:
    """What the settings amount to; the help of the setting under the cursor comes first."""
    lines: list[Line] = []
    if view.panel == "settings":
        name = view.summary[view.cursor]
        lines += [[(part, "")] for part in wrapped(setting_of(name).help(view.lang), width - 4, 2)]
    known = meaning.Meaning(view.config, view.processes, view.report, view.findings, view.lang)
    lines += meaning.draw(known, width - 4)
    return frame([(say("screen.meaning", view.lang), "head")], lines, width, height)
