"""The panel with the predictions of the newest evaluation."""

from collections.abc import Mapping
from dataclasses import replace

from engine.contract.events import Sample
from engine.contract.scores import all_measures, merit, score_phrase, shown
from engine.contract.texts import say
from sft_tui.screen import paged
from sft_tui.screen.ink import Line, columns, fit, frame
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.text import safe
from sft_tui.wrapping import wrapped

LONGEST = 4000  # characters of a text
MOST_LINES = 200  # for one text if the panel fills the screen
BRIEF_LINES = (6, 4, 3, 2, 1)  # for one text otherwise: the most with which all samples fit, or else the last


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """Predictions of the last evaluation, each above that of the previous one, as many as fit."""
    samples, room = view.state.samples, height - 2
    if not samples:
        body: list[Line] = [[(say("screen.no_samples", view.lang), "dim")]]
        return frame(_title(view, width - 6), body, width, height)
    first = min(view.selection.sample, len(samples) - 1)
    for most in BRIEF_LINES:
        body = lines(view, width - 4, most, first)
        if len(body) <= room:
            break
    note: Line = [(f"{first + 1}/{len(samples)}", "dim")] if view.selection.sample else []
    return frame(_title(view, width - 6 - columns(note)), body, width, height, note)


def page(view: RunView, width: int, height: int) -> list[Line]:
    """All of them in full, on a page of their own."""
    body = lines(view, width - 4, MOST_LINES)
    if not body:
        return draw(view, width, height)
    return paged.page(view, _title(view, width - 20), body, width, height)


def whole(view: RunView, width: int) -> list[Line]:
    """The lines of that page."""
    return lines(view, width, MOST_LINES)


def lines(view: RunView, width: int, most: int, first: int = 0) -> list[Line]:
    """The samples from the given one on, with at most the given number of lines for each text.

    The newest prediction comes first, as it is the one that is new: what does not fit is the reference.
    """
    earlier = {one.row: one for one in view.state.samples_before}
    found: list[Line] = []
    for sample in view.state.samples[first:]:
        found += [*([[]] if found else []), *_sample(view, sample, earlier, width, most)]
    return found


def _sample(view: RunView, sample: Sample, earlier: Mapping[int, Sample], width: int, most: int) -> list[Line]:
    parts = [("screen.prompt", sample.prompt, "dim"), ("screen.after", sample.prediction, "head")]
    if sample.row in earlier:
        parts.append(("screen.before", earlier[sample.row].prediction, ""))
    parts.append(("screen.reference", sample.reference, "dim"))
    names = [say(key, view.lang) for key in ("screen.prompt", "screen.after", "screen.before", "screen.reference")]
    indent = max(columns([(name, "")]) for name in names) + 1
    found: list[Line] = []
    for key, words, role in parts:
        found += _labelled(say(key, view.lang), safe(words.strip(), LONGEST) or "-", role, width, most, indent)
    return found


def _labelled(label: str, text: str, role: str, width: int, most: int, indent: int) -> list[Line]:
    """A text behind its label, every line of it in the same column."""
    texts = wrapped(text, max(8, width - indent), most)
    return [
        [*fit([(label if number == 0 else "", "accent")], indent), (part, role)] for number, part in enumerate(texts)
    ]


def _title(view: RunView, width: int) -> Line:
    """The score that decides with the previous one, and as many others of replies as there is room for."""
    lang, now, before = view.lang, view.state.evaluation, view.state.evaluation_before
    title: Line = [(say("screen.samples", lang), "head")]
    if now is None:
        return title
    title += [(" · ", "dim"), (score_phrase(now).text(lang), "accent")]
    if before and merit(now, now.best_by).comparable(merit(before, now.best_by)):
        title += [(say("screen.was", lang, value=shown(now.best_by, merit(before, now.best_by).value)), "dim")]
    others = [name for name in all_measures(now) if name not in ("loss", "perplexity", now.best_by)]
    for other in others:
        part = f" · {score_phrase(now, other).text(lang)}"
        if columns(title) + columns([(part, "")]) <= width:
            title.append((part, "dim"))
    return title


def scroll(view: RunView, by: int) -> Selection:
    """Moves to later samples, or to earlier ones if `by` is negative; on their own page by lines."""
    if view.selection.page == "samples":
        return paged.scroll(view, by)
    last = max(0, len(view.state.samples) - 1)
    return replace(view.selection, sample=min(last, max(0, view.selection.sample + by)))
