"""The screen before a run, as a pure function: presets, problems, settings, and what the settings amount to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.contract.config import FIELDS, RunConfig, setting_of
from engine.contract.facts import DataFacts, LengthFacts
from engine.contract.presets import Preset, presets
from engine.contract.texts import Lang, say
from sft_tui.demo import STORIES, Progress
from sft_tui.options import setting_text
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.report import SIGNS, subject
from sft_tui.screen.ink import BLOCKS, Ink, Line, columns, filled, fit, frame, side_by_side
from sft_tui.text import safe, size
from sft_tui.wrapping import wrap, wrapped

PANELS = ("presets", "findings", "settings")
ROLES = {"error": "bad", "warning": "warn", "ok": "good"}
WIDE, TALL = 100, 30
NAME = 28  # columns of a setting's name
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
    doing: str = ""  # what is being read, before there is a report
    panel: str = "presets"
    finding: int = 0
    setting: int = 0
    resumable: Mapping[str, Resumable] = field(default_factory=dict)
    processes: int = 1
    offer_demo: bool = False  # if there is no run here yet
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
    elif view.offer_demo:
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
        place = first_setting(view.setting, room) + line
        inside = x < at.half and 0 <= line < room and place < len(FIELDS)
        return "settings", place if inside else -1
    line, room = y - 2, at.upper - 2
    if x < at.left:
        panel, shown = (
            "presets",
            _shown(_preset_items(view, at.left - 4, room), list(view.presets).index(view.preset), room),
        )
    else:
        panel, shown = "findings", _shown(_finding_items(view, width - at.left - 4, room), view.finding, room)
    return panel, shown[line][0] if 0 <= line < len(shown) else -1


def first_setting(cursor: int, room: int) -> int:
    """The setting in the first line of the settings panel."""
    return max(0, min(cursor - room // 2, len(FIELDS) - room))


Item = tuple[int, Line]  # a line, and the index of its item in the panel


def _shown(items: list[Item], cursor: int, room: int) -> list[Item]:
    """The lines that fit, with all of the item under the cursor if possible."""
    places = [place for place, (owner, _) in enumerate(items) if owner == cursor] or [0]
    above = places[0] - 1 if cursor else 0  # lines above the first item belong to all of them
    first = max(0, min(places[-1] + 2 - room, above), min(above, len(items) - room))
    first = min(first, max(0, len(items) - room))
    return items[first : first + room]


def _title(key: str, panel: str, view: LaunchView) -> Line:
    return [(say(key, view.lang), "accent" if view.panel == panel else "head")]


def _presets(view: LaunchView, width: int, height: int) -> list[Line]:
    shown = _shown(_preset_items(view, width - 4, height - 2), list(view.presets).index(view.preset), height - 2)
    return frame(_title("screen.presets", "presets", view), [line for _, line in shown], width, height)


def _preset_items(view: LaunchView, width: int, room: int) -> list[Item]:
    """Each preset with its purpose: in full for the one under the cursor, for the others as much as fits."""
    for most in (4, 2, 1, 0):
        items = _preset_lines(view, width, most)
        if len(items) <= room:
            break
    return items


def _preset_lines(view: LaunchView, width: int, most: int) -> list[Item]:
    items: list[Item] = []
    for place, (name, entry) in enumerate(view.presets.items()):
        chosen = name == view.preset
        role = "select" if chosen and view.panel == "presets" else "head" if chosen else ""
        items.append((place, fit([("▸ " if chosen else "  ", "accent"), (name, role)], width, role if chosen else "")))
        summary = wrapped(entry.summary(view.lang), width - 4, 9 if chosen else most)
        items += [(place, [(f"    {part}", "dim")]) for part in summary]
        going = view.resumable.get(name)
        if going is not None:
            percent = 100 * going.step // max(1, going.steps_total)
            key = "screen.running" if going.alive else "screen.resumable"
            shown = say(key, view.lang, run=safe(going.run, 24), step=going.step, percent=percent)
            items += [(place, [(f"    {part}", "warn")]) for part in wrap(shown, width - 4)]
    return items


def _findings(view: LaunchView, width: int, height: int) -> list[Line]:
    title = [*_title("screen.ready", "findings", view), (f" {view.preset}", "dim")]
    shown = _shown(_finding_items(view, width - 4, height - 2), view.finding, height - 2)
    return frame(title, [line for _, line in shown], width, height, _counts(view))


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
    for full in (True, False):
        items = list(head)
        for place, finding in enumerate(view.findings):
            here = view.panel == "findings" and place == view.finding
            lines = _finding(finding, column, width, lang, here=here, full=here or full)
            items += [(place, line) for line in lines]
        if len(items) <= room:
            break
    return items


def _finding(finding: Finding, column: int, width: int, lang: Lang, *, here: bool, full: bool) -> list[Line]:
    """A finding with its sign; for a problem also its remedy, and its reason if there is room."""
    role = ROLES[finding.level]
    beneath = width - column - 4 < LEAST_WORDS
    indent = 4 if beneath else column + 4
    room = max(10, width - indent)
    most = 99 if full else 3 if finding.level != "ok" else 1
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
        return [(f"✗ {errors}  ! {warnings}", "bad")]
    return [(f"! {warnings}", "warn")] if warnings else [(f"✓ {say('screen.all_good', view.lang)}", "good")]


def _settings(view: LaunchView, width: int, height: int) -> list[Line]:
    names = list(FIELDS)
    room = height - 2
    first = first_setting(view.setting, room)
    lines: list[Line] = []
    base = view.presets[view.preset].config
    column = NAME if width - 4 >= NAME + 12 else max(12, width - 4 - 12)
    for place in range(first, min(len(names), first + room)):
        name = names[place]
        here = view.panel == "settings" and place == view.setting
        changed = name in view.values
        value = setting_text(name, getattr(view.config, name), view.lang)
        line: Line = [*fit([("▸" if here else " ", "accent"), (name, "select" if here else "")], column)]
        line += [(" ", ""), (value, "accent" if changed else "")]
        unit = setting_of(name).unit_in(view.lang)
        if changed:
            line.append(
                (f" {say('screen.was', view.lang, value=setting_text(name, getattr(base, name), view.lang))}", "dim")
            )
        elif unit:
            line.append((f" {unit}", "dim"))
        lines.append(line)
    return frame(_title("screen.settings", "settings", view), lines, width, height)


def _meaning(view: LaunchView, width: int, height: int) -> list[Line]:
    """What the settings amount to; the help of the setting under the cursor comes first."""
    config, lang, facts = view.config, view.lang, view.report.data if view.report else DataFacts()
    lines: list[Line] = []
    if view.panel == "settings":
        name = list(FIELDS)[view.setting]
        lines += [[(part, "")] for part in wrap(setting_of(name).help(lang), width - 4)[:2]]
    batch = config.effective_batch(view.processes)
    parts = f"{config.batch_size_per_gpu} × {config.gradient_accumulation_steps} × {view.processes}"
    lines.append([(say("screen.batch", lang, batch=batch, parts=parts), "")])
    rate = say("screen.peak_rate", lang, peak=f"{config.peak_learn_rate():g}")
    if facts.steps is not None:
        lines.append([(say("screen.steps", lang, per_epoch=facts.steps.per_epoch, total=facts.steps.total), "")])
    lines.append([(rate, "")])
    if view.report is not None and view.report.prediction is not None:
        needs = [say("screen.needs_memory", lang, size=size(view.report.prediction.total * view.processes))]
        needs += [say("screen.needs_disk", lang, size=f.args["need"]) for f in view.findings if f.code == "disk"][:1]
        times = [
            say("screen.needs_time", lang, time=f.args["expected"]) for f in view.findings if f.code == "rehearsed"
        ]
        hint = [say("screen.time_by_h", lang)] if width > 2 * NAME else []
        lines += [[(line, "")] for line in _joined([*needs, *(times or hint)], width - 4)]
    train = facts.read.get("train_file")
    if train is not None and train.tokens is not None:
        lines += _lengths(train.tokens.label, config, width - 4, lang)
    return frame([(say("screen.meaning", lang), "head")], lines, width, height)


def _joined(parts: Sequence[str], width: int) -> list[str]:
    """Short texts on as few lines as possible, none of them broken."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]} · {part}" if lines else part
        if lines and columns([(longer, "")]) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _lengths(label: LengthFacts, config: RunConfig, width: int, lang: Lang) -> list[Line]:
    """The lengths of the responses as a bar of blocks, with the limit at which they are cut."""
    counts, edges = list(label.histogram.counts), list(label.histogram.edges)
    name = say("screen.lengths", lang) + " "
    while len(counts) > 8 and columns([(name, "")]) + len(counts) + 1 > width:  # one more for the limit
        counts, edges = [sum(counts[at : at + 2]) for at in range(0, len(counts), 2)], [*edges[:-1:2], edges[-1]]
    most = max(1, *counts)
    blocks: Line = [(name, "dim")]
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        block = BLOCKS[min(7, int(7.99 * (count / most) ** 0.5))] if count else " "
        if low < config.max_seq_len <= high:
            blocks.append(("▏", "warn"))
        blocks.append((block, "bad" if low >= config.max_seq_len else "chart"))
    median = say("screen.median", lang, median=label.median, longest=label.longest, limit=config.max_seq_len)
    return [fit(blocks, width), [(median, "dim")]]
