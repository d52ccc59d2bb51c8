"""The screen before a run, as a pure function: presets, what stands in the way, settings, and what they come to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.contract.config import FIELDS, RunConfig, setting_of
from engine.contract.messages import Lang
from engine.contract.presets import PRESETS, preset
from sft_tui.locale import say
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.report import SIGNS, subject
from sft_tui.screen.ink import BLOCKS, Ink, Line, beside, columns, filled, fit, frame, wrap
from sft_tui.text import number, safe, size

PANELS = ("presets", "findings", "settings")
ROLES = {"error": "bad", "warning": "warn", "ok": "good"}
WIDE, TALL = 100, 30


@dataclass(frozen=True)
class Resumable:
    """An unfinished run in a preset's output folder."""

    run: str
    step: int
    steps_total: int


@dataclass(frozen=True)
class View:
    """All that the screen shows."""

    preset: str
    values: Mapping[str, Any] = field(default_factory=dict)  # over the preset's
    config: RunConfig = field(default_factory=RunConfig)
    report: Report | None = None
    doing: str = ""  # what is being read while there is no report
    panel: str = "presets"
    finding: int = 0
    setting: int = 0
    fault: tuple[str, str] = ("", "")  # a setting, and what is wrong with what was typed there
    resumable: Mapping[str, Resumable] = field(default_factory=dict)
    processes: int = 1
    offer_demo: bool = False  # nothing was ever run here
    ink: Ink = field(default_factory=Ink)
    lang: Lang = "en"

    @property
    def findings(self) -> list[Finding]:
        """What was found so far."""
        return self.report.findings if self.report else []


def draw(view: View, width: int, height: int) -> list[Line]:
    """The screen without its footer, in exactly so many lines and columns."""
    title: Line = [(" sft-tui", "head"), (" · ", "dim"), (say("ui_launch", view.lang), "dim")]
    if view.offer_demo:
        title = [*title[:2], (say("ui_demo_offer", view.lang), "accent")]
    body = height - 1
    wide = width >= WIDE and height >= TALL
    left = 34 if wide else 22
    lower = max(6, body // 3) if wide else 7
    upper = body - lower
    top = beside(_presets(view, left, upper), _findings(view, width - left, upper))
    half = width // 2 if wide else width * 11 // 20
    bottom = beside(_settings(view, half, lower), _meaning(view, width - half, lower))
    return filled([fit(title, width), *top, *bottom], width, height)


def _title(key: str, panel: str, view: View) -> Line:
    return [(say(key, view.lang), "accent" if view.panel == panel else "head")]


def _presets(view: View, width: int, height: int) -> list[Line]:
    lines: list[Line] = []
    at = 0
    for name, entry in PRESETS.items():
        chosen = name == view.preset
        if chosen:
            at = len(lines)
        role = "select" if chosen and view.panel == "presets" else "head" if chosen else ""
        lines.append(fit([("▸ " if chosen else "  ", "accent"), (name, role)], width - 4, role if chosen else ""))
        if chosen or height > 26:
            summary = wrap(entry.summary(view.lang), width - 8)[: 4 if chosen else 1]
            lines += [[(f"    {part}", "dim")] for part in summary]
        going = view.resumable.get(name)
        if going is not None:
            percent = 100 * going.step // max(1, going.steps_total)
            shown = say("ui_resumable", view.lang, run=safe(going.run, 24), step=going.step, percent=percent)
            lines += [[(f"    {part}", "warn")] for part in wrap(shown, width - 8)]
    first = max(0, min(at - 2, len(lines) - (height - 2)))
    return frame(_title("ui_presets", "presets", view), lines[first:], width, height)


def _findings(view: View, width: int, height: int) -> list[Line]:
    lang = view.lang
    title = [*_title("ui_ready", "findings", view), (f" {view.preset}", "dim")]
    lines: list[Line] = []
    if view.doing:
        lines.append([(f"… {view.doing}", "dim")])
    column = min(18, max((columns([(subject(f.subject, lang), "")]) for f in view.findings), default=0))
    at = 0
    for place, finding in enumerate(view.findings):
        here = view.panel == "findings" and place == view.finding
        if here:
            at = len(lines)
        lines += _finding(finding, column, width - 4, lang, here=here)
    first = max(0, min(at - 1, len(lines) - (height - 2)))
    return frame(title, lines[first:], width, height, _counts(view))


def _finding(finding: Finding, column: int, width: int, lang: Lang, *, here: bool) -> list[Line]:
    """A problem with its reason and remedy; what is in order on one line, unless the cursor is on it."""
    role = ROLES[finding.level]
    indent = column + 4
    words = wrap(safe(finding.what(lang), 800), max(10, width - indent))
    kept = words if here or finding.level != "ok" else words[:1]
    head: Line = [
        (f"{SIGNS[finding.level]} ", role),
        *fit([(subject(finding.subject, lang), "select" if here else role if finding.level != "ok" else "")], column),
        ("  ", ""),
    ]
    lines: list[Line] = [[*head, (kept[0], "")], *([(" " * indent + part, "")] for part in kept[1:])]
    if finding.level == "ok":
        return lines
    if here:
        lines += [[(" " * indent + part, "dim")] for part in wrap(safe(finding.why(lang), 400), width - indent)]
    if finding.command:
        shown = wrap(safe(finding.command, 800), width - indent - 2)
        lines.append(
            [(" " * indent, ""), ("f ", "key"), (shown[0] + ("" if here or len(shown) == 1 else " …"), "accent")]
        )
        lines += [[(" " * (indent + 2) + part, "accent")] for part in shown[1:] if here]
    else:
        fix = wrap(safe(finding.fix(lang), 600), width - indent)
        lines += [[(" " * indent + part, "dim")] for part in (fix if here else fix[:1])]
    return lines


def _counts(view: View) -> Line:
    if view.report is None or view.doing:
        return [(say("ui_checking", view.lang), "dim")]
    errors, warnings = view.report.count("error"), view.report.count("warning")
    if errors:
        return [(f"✗ {errors}  ! {warnings}", "bad")]
    return [(f"! {warnings}", "warn")] if warnings else [(f"✓ {say('ui_all_good', view.lang)}", "good")]


def _settings(view: View, width: int, height: int) -> list[Line]:
    names = list(FIELDS)
    room = height - 2
    first = max(0, min(view.setting - room // 2, len(names) - room))
    lines: list[Line] = []
    base = preset(view.preset).config
    for place in range(first, min(len(names), first + room)):
        name = names[place]
        here = view.panel == "settings" and place == view.setting
        changed = name in view.values
        value = number(getattr(view.config, name))
        line: Line = [*fit([("▸" if here else " ", "accent"), (name, "select" if here else "")], 28)]
        line += [(" ", ""), (value, "accent" if changed else "")]
        unit = setting_of(name).unit
        if view.fault[0] == name:
            line.append((f"  ✗ {safe(view.fault[1], 120)}", "bad"))
        elif changed:
            line.append((f"  {say('ui_was', view.lang, bleu=number(getattr(base, name)))}", "dim"))
        elif unit:
            line.append((f" {unit}", "dim"))
        lines.append(line)
    return frame(_title("ui_settings", "settings", view), lines, width, height)


def _meaning(view: View, width: int, height: int) -> list[Line]:
    """What the settings come to; under the cursor on a setting, its help first."""
    config, lang, facts = view.config, view.lang, view.report.facts if view.report else {}
    lines: list[Line] = []
    if view.panel == "settings":
        help_text = setting_of(list(FIELDS)[view.setting]).help(lang)
        lines += [[(part, "")] for part in wrap(help_text, width - 4)[:2]]
    batch = config.effective_batch(view.processes)
    steps = (facts.get("data") or {}).get("steps")
    parts = f"{config.batch_size_per_gpu} × {config.gradient_accumulation_steps} × {view.processes}"
    shown = say("ui_batch", lang, batch=batch, parts=parts)
    if steps:
        shown += " · " + say("ui_steps", lang, per_epoch=steps["per_epoch"], total=steps["total"])
    lines.append([(shown, "")])
    lines.append([(say("ui_peak_rate", lang, peak=f"{config.peak_learn_rate():g}"), "")])
    if view.report is not None and view.report.prediction is not None:
        needs = [say("ui_needs_memory", lang, size=size(view.report.prediction.total * view.processes))]
        needs += [say("ui_needs_disk", lang, size=f.args["need"]) for f in view.findings if f.code == "disk"][:1]
        needs += [say("ui_needs_time", lang, time=f.args["expected"]) for f in view.findings if f.code == "rehearsed"]
        lines.append([(" · ".join(needs), "")])
    lines += _lengths(facts, config, width - 4, lang)
    return frame([(say("ui_meaning", lang), "head")], lines, width, height)


def _lengths(facts: Mapping[str, Any], config: RunConfig, width: int, lang: Lang) -> list[Line]:
    """The lengths of the responses as a bar of blocks, with the place where they are cut."""
    label = ((facts.get("data") or {}).get("train_file") or {}).get("label")
    if not label:
        return []
    counts, edges = label["histogram"]["counts"], label["histogram"]["edges"]
    most = max(1, *counts)
    blocks: Line = [(say("ui_lengths", lang) + " ", "dim")]
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        block = BLOCKS[min(7, int(7.99 * (count / most) ** 0.5))] if count else " "
        if low < config.max_seq_len <= high:
            blocks.append(("▏", "warn"))
        blocks.append((block, "bad" if low >= config.max_seq_len else "chart"))
    told = say("ui_median", lang, median=label["median"], longest=label["longest"], limit=config.max_seq_len)
    return [fit(blocks, width), [(told, "dim")]]
