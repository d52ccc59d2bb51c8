"""The panel with the predictions of the newest evaluation."""

from dataclasses import replace

from engine.contract.scores import all_measures, merit, score_phrase, shown
from engine.contract.texts import say
from sft_tui.screen.ink import Line, columns, frame
from sft_tui.screen.run_contents import RunView, Selection
from sft_tui.text import safe
from sft_tui.wrapping import wrapped

MOST_LINES = 6  # for one text if the panel fills the screen


def draw(view: RunView, width: int, height: int) -> list[Line]:
    """Predictions of the last evaluation, next to those of the previous one."""
    state, lang = view.state, view.lang
    body: list[Line] = []
    earlier = {one.row: one for one in state.samples_before}
    alone, count = view.selection.page == "samples", len(state.samples)
    for sample in state.samples[min(view.selection.sample, count - 1) if count else 0 :]:
        parts = [("screen.prompt", sample.prompt, "dim"), ("screen.reference", sample.reference, "dim")]
        if sample.row in earlier:
            parts.append(("screen.before", earlier[sample.row].prediction, ""))
        parts.append(("screen.after", sample.prediction, "head"))
        for key, words, role in parts:
            most = MOST_LINES if alone else 2
            body += _labelled(say(key, lang), safe(words.strip(), 2000) or "-", role, width - 4, most)
        body.append([])
    if not body:
        body = [[(say("screen.no_samples", lang), "dim")]]
    moved = alone or view.selection.sample
    note: Line = [(f"{min(view.selection.sample, count - 1) + 1}/{count}", "dim")] if moved and count else []
    return frame(_title(view, width - 6 - columns(note)), body, width, height, note)


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


def _labelled(label: str, text: str, role: str, width: int, most: int) -> list[Line]:
    indent = columns([(label, "")]) + 1
    lines = wrapped(text, max(8, width - indent), most)
    return [
        [(f"{label} " if number == 0 else " " * indent, "accent"), (line, role)] for number, line in enumerate(lines)
    ]


def scroll(view: RunView, by: int) -> Selection:
    """Moves to later samples, or to earlier ones if `by` is negative."""
    last = max(0, len(view.state.samples) - 1)
    return replace(view.selection, sample=min(last, max(0, view.selection.sample + by)))
