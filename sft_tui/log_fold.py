"""The lines of a log as they are shown: those of a level, samples and long stretches of steps folded into one line."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from operator import attrgetter

from engine.contract.texts import Lang, say
from sft_tui.log_lines import Earlier, LogLine
from sft_tui.text import safe

LEVELS = {
    "all": {"step", "note", "data", "warning", "error"},
    "notes": {"note", "data", "warning", "error"},
    "warnings": {"warning", "error"},
}
FOLD, GAP = "fold", "gap"  # the levels of lines that stand for others, which are held or not
LONGEST_STRETCH = 12  # steps that are never folded
KEPT_STEPS = 3  # shown at the end of a folded stretch
NEWEST_STEPS = 20  # the same at the end of the log, where they come in


def of_level(lines: Sequence[LogLine], level: str) -> list[LogLine]:
    """The lines that belong to a level."""
    return [line for line in lines if line.level in LEVELS[level]]


def has(line: LogLine, words: str) -> bool:
    """Whether a line of the log has these words, whatever their case; one that stands for others has none."""
    return bool(words) and line.level not in (FOLD, GAP) and words.lower() in line.text.lower()


def joined(held: Sequence[LogLine], found: Sequence[LogLine]) -> Sequence[LogLine]:
    """The lines held with those found by a search, in order, each once."""
    if not found:
        return held
    known = {line.number for line in held}
    return list(merge(held, (line for line in found if line.number not in known), key=attrgetter("number")))


def folded(lines: Sequence[LogLine], words: str, unfolded: frozenset[int], lang: Lang) -> list[LogLine]:
    """The lines with every stretch folded that is not `unfolded`, by the number of its first line.

    A line that has the words searched for is never folded.
    """
    shown: list[LogLine] = []
    for kind, stretch in groupby(lines, key=_kind_of(words)):
        part = list(stretch)
        if kind == "" or part[0].number in unfolded:
            shown += part
        elif kind == "sample":
            shown.append(_fold(part, _samples(part, lang)))
        else:
            newest = part[-1] is lines[-1]
            shown += _with_its_end(part, NEWEST_STEPS if newest else KEPT_STEPS, lang)
    return shown


def _kind_of(words: str) -> Callable[[LogLine], str]:
    wanted = words.lower()

    def kind(line: LogLine) -> str:
        if wanted and wanted in line.text.lower():
            return ""
        return "sample" if line.sample else "step" if line.level == "step" else ""

    return kind


def _with_its_end(steps: list[LogLine], kept: int, lang: Lang) -> Iterator[LogLine]:
    count = len(steps) - kept
    if count <= LONGEST_STRETCH - KEPT_STEPS:
        yield from steps
        return
    yield _fold(steps[:count], say("screen.fold_steps", lang, count=count))
    yield from steps[count:]


def _samples(lines: list[LogLine], lang: Lang) -> str:
    count, score = sum(line.sample == 1 for line in lines), lines[0].score
    key = "screen.fold_samples" if score else "screen.fold_samples_alone"
    return say(key, lang, count=count, **({"score": score} if score else {}))


def _fold(lines: list[LogLine], words: str) -> LogLine:
    return LogLine(lines[0].at, FOLD, words, lines[0].number)


def with_gaps(lines: list[LogLine], earlier: Earlier, level: str, run: str, lang: Lang) -> list[LogLine]:
    """The lines with a note in place of each part that is not held."""
    shown = [("screen.gap_lines", earlier.warnings, True), ("screen.gap_lines", earlier.notes, level != "warnings")]
    shown += [("screen.gap_samples", earlier.samples, level != "warnings")]
    shown += [("screen.gap_steps", earlier.steps, level == "all")]
    found = list(lines)
    for key, gap, is_shown in shown:
        if gap.lines and is_shown:
            place = bisect_left(found, gap.before, key=attrgetter("number"))
            words = say(key, lang, count=gap.lines, run=safe(run, 40))
            found.insert(place, LogLine("", GAP, words, gap.before))
    if earlier.read < 1:
        reading = say("screen.reading_earlier", lang, percent=f"{100 * earlier.read:.0f}")
        found.insert(0, LogLine("", GAP, reading, -1))
    return found
