"""Findings as lines for a terminal, and as JSON."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from engine.contract.bounds import as_json
from engine.contract.facts import PARTS, Batch, StepFacts
from engine.contract.texts import Lang, named, say
from sft_tui.preflight.check import Report
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import command_of
from sft_tui.text import pad, safe, width
from sft_tui.wrapping import wrap

MOST_OTHERS = 3  # ways that are printed after the recommended one
MARGIN = 4  # columns around a subject: its sign, and spaces
NARROWEST = 30  # columns below which a text is left to the terminal
SIGNS = {"error": "✗", "warning": "!", "ok": "✓"}


def subject(name: str, lang: Lang) -> str:
    """The displayed name of a finding's subject."""
    return named("subject", name, lang)


def lines(findings: list[Finding], lang: Lang, columns: int = 0) -> Iterator[str]:
    """Each finding with its sign and subject, and its reason and fix below if something is wrong.

    Texts are wrapped to `columns`, if given, apart from those with a command, which stays in one piece to be copied.
    """
    column = max((width(subject(finding.subject, lang)) for finding in findings), default=0)
    room = columns - column - MARGIN
    for finding in findings:
        head = f"{SIGNS[finding.level]} {pad(subject(finding.subject, lang), column)}  "
        texts = [finding.what(lang)]
        if finding.level != "ok":
            texts += filter(None, (finding.why(lang), finding.fix(lang)))
        paragraphs = [_paragraph(safe(text), room) for text in texts]
        if finding.level != "ok":
            paragraphs += [[text] for text in _ways(finding, lang)]
        for number, text in enumerate(chain.from_iterable(paragraphs)):
            yield f"{' ' * (column + MARGIN) if number else head}{text}"


def _paragraph(text: str, room: int) -> list[str]:
    return [text] if room < NARROWEST or "`" in text else wrap(text, room)


def _ways(finding: Finding, lang: Lang) -> Iterator[str]:
    """The commands of its ways that its fix does not contain: the recommended one, then the others, at most some."""
    first, *others = [command_of(way) for way in finding.ways] or [""]
    fix = finding.fix(lang)
    if first and first not in fix:
        yield say("app.command", lang, command=safe(first))
    others = [command for command in others if f"`{command}`" not in fix]
    for command in others[:MOST_OTHERS]:
        yield say("app.other_command", lang, command=safe(command))
    if len(others) > MOST_OTHERS:
        yield say("app.more_commands", lang, count=len(others) - MOST_OTHERS)


def summary(report: Report, lang: Lang) -> str:
    """The number of findings of each level."""
    counts = {f"{level}s": report.count(level) for level in ("error", "warning", "ok")}
    return say("app.preflight_bad" if counts["errors"] else "app.preflight_good", lang, **counts)


def to_json(report: Report, lang: Lang, rehearsed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The whole report as plain values, with the result of a rehearsal if there was one."""
    needed = report.prediction, report.gpu_prediction
    memory, on_gpu = (each and {"items": dict(each.items), "total": each.total} for each in needed)
    if report.prediction and memory:
        memory |= {"ranks": report.ranks, "host": report.prediction.total * report.ranks}
    findings = []
    for finding in report.findings:
        parts = {name: safe(text) for name, text in finding.to_json(lang).items()}
        commands, *others = [[list(action.argv) for action in way] for way in finding.ways] or [[]]
        findings.append({**parts, "commands": commands, "others": others})
    tokens = {name: file.tokens for name, file in report.data.read.items() if file.tokens is not None}
    return {
        "findings": findings,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "memory": memory,
        "gpu_memory": on_gpu,
        "lengths": {name: {part: as_json(about.lengths(part)) for part in PARTS} for name, about in tokens.items()},
        "rehearsed": rehearsed,
        "steps": _steps(report.data.steps),
        "learning": safe(report.learning.text(lang)) if report.learning else None,
    }


def _steps(steps: StepFacts | None) -> dict[str, Any] | None:
    """The steps as plain values; a micro-batch is [rows, longest prompt, longest label]."""
    if steps is None:
        return None
    largest, packed = ([_shape(batch) for batch in batches] for batches in (steps.largest, steps.packed))
    return {**as_json(steps), "largest": largest, "packed": packed, "generation": _shape(steps.generation)}


def _shape(batch: Batch) -> list[int]:
    return [batch.rows, batch.prompt, batch.label]
