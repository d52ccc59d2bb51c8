"""A blind comparison as lines: a prompt, and two replies as A and B; at the end the tally."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.contract.texts import Lang, say
from sft_tui.judging import Comparison, Tally, Trial, in_words, tally
from sft_tui.screen.chat_view import paragraphs, shown_from, sizes
from sft_tui.screen.ink import Line, filled, frame, side_by_side
from sft_tui.text import safe
from sft_tui.wrapping import wrap, wrapped

MOST_PROMPT = 6  # lines of a prompt
ROOMY = 16  # lines, with which there is room to say where prompts are from


@dataclass(frozen=True)
class BlindView:
    """A comparison at one of its trials; without one, `doing` or `fault` says why."""

    comparison: Comparison | None
    place: int = 0
    top: int = 0  # the first line of the replies that is shown
    doing: str = ""
    fault: str = ""
    lang: Lang = "en"


def draw(view: BlindView, width: int, height: int) -> list[Line]:
    """The comparison, in exactly this size."""
    head: Line = [(" sft-tui · ", "dim"), (say("blind.title", view.lang), "head")]
    found = view.comparison
    if view.fault or found is None:
        words, role = (view.fault, "bad") if view.fault else (view.doing, "dim")
        return filled([head, [], *([(f" {part}", role)] for part in wrap(safe(words, 800), width - 2))], width, height)
    if view.place >= len(found.trials):
        return filled([head, [], *_end(found, view.lang, width)], width, height)
    head.append((f"  {say('blind.place', view.lang, place=view.place + 1, count=len(found.trials))}", "dim"))
    source = wrap(_source(found, view.lang), max(1, width - 2)) if height >= ROOMY else []
    asked = _asked(found.trials[view.place], width, height)
    top: list[Line] = [head, *([(f" {part}", "dim")] for part in source)]
    top += [[(" > " if at == 0 else "   ", "accent"), (part, "accent")] for at, part in enumerate(asked)]
    return filled([*top, *_replies(view, found, width, height - len(top))], width, height)


def most_top(view: BlindView, width: int, height: int) -> int:
    """The first line of the longer reply if its last one is at the bottom."""
    found = view.comparison
    if found is None or view.place >= len(found.trials):
        return 0
    source = wrap(_source(found, view.lang), max(1, width - 2)) if height >= ROOMY else []
    above = 1 + len(source) + len(_asked(found.trials[view.place], width, height))
    frames = sizes(2, width, max(0, height - above))
    replies = _paragraphs(found.trials[view.place], view.lang, [columns for columns, _ in frames])
    return max(shown_from(None, len(lines), rows - 2) for lines, (_, rows) in zip(replies, frames, strict=True))


def _asked(trial: Trial, width: int, height: int) -> list[str]:
    """The lines of the prompt."""
    asked = wrapped(" ".join(safe(trial.prompt, 2000).split()), max(1, width - 4), MOST_PROMPT)
    return asked[: max(1, height - 10)]


def _paragraphs(trial: Trial, lang: Lang, columns: Sequence[int]) -> list[Sequence[str]]:
    """The lines of both replies, each in a frame of a number of columns."""
    replies = trial.shown if trial.answered else ("…", "…")
    return [
        paragraphs(reply, wide - 4) or [say("chat.nothing", lang)] for reply, wide in zip(replies, columns, strict=True)
    ]


def _replies(view: BlindView, found: Comparison, width: int, height: int) -> list[Line]:
    trial, frames = found.trials[view.place], sizes(2, width, max(0, height))
    texts = _paragraphs(trial, view.lang, [columns for columns, _ in frames])
    blocks = []
    for at, (columns, rows) in enumerate(frames):
        lines = texts[at]
        first = shown_from(view.top, len(lines), rows - 2)
        letter = "AB"[at]
        chosen = trial.preferred == ("second" if (letter == "A") == trial.swapped else "first")
        note: Line = [(say("blind.chosen", view.lang), "good")] if chosen else []
        body: list[Line] = [[(line, "" if trial.answered else "dim")] for line in lines[first:]]
        blocks.append(frame([(letter, "head")], body, columns, rows, note))
    if blocks[0] and len(blocks[0]) == len(blocks[1]) == height:
        return side_by_side(*blocks)
    return [line for block in blocks for line in block]


def _source(found: Comparison, lang: Lang) -> str:
    """Which files the prompts are from, and how many were left out."""
    key = "blind.source" if found.compared else "blind.source_alone"
    files = say("list.separator", lang).join(safe(file, 60) for file in found.files)
    return say(key, lang, path=files, trained=found.trained)


def _end(found: Comparison, lang: Lang, width: int) -> list[Line]:
    counted: Tally = tally(found)
    lines: list[Line] = []
    for at, words in enumerate(in_words(counted, lang)):
        role = "head" if at < 3 else ""
        lines += [[(f" {part}", role)] for part in wrap(words, max(1, width - 2))]
        lines += [[]] if at == 2 else []
    return [*lines, [], *([(f" {part}", "dim")] for part in wrap(_source(found, lang), max(1, width - 2)))]
