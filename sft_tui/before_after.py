"""What a training changed: scores and replies of the model that a run started from, next to those of the newest."""

from engine.contract.events import Eval, Sample
from engine.contract.scores import all_measures, shown
from engine.contract.texts import Lang, named, say
from sft_tui.run_state import RunState
from sft_tui.text import pad, safe, width
from sft_tui.wrapping import wrapped

GAP = 3  # columns between the two sides
NARROWEST = 40  # columns below which a side would be hard to read
MOST_LINES = 6  # of one reply
LONGEST = 600  # characters of one reply


def is_known(state: RunState) -> bool:
    """Whether a run was evaluated before its first step and again later."""
    return state.baseline is not None and state.evaluation is not None and state.evaluation.step > 0


def lines(state: RunState, columns: int, lang: Lang) -> list[str]:
    """Each sample's prompt and reference, and below it both replies side by side; then the scores of both.

    Empty if the run was not evaluated before its first step.
    """
    before, after = state.baseline, state.evaluation
    if before is None or after is None or not is_known(state):
        return []
    first = {sample.row: sample for sample in state.baseline_samples}
    side = max(NARROWEST, columns - GAP - 2) // 2
    page = [_row("", say("app.side_before", lang), say("app.side_after", lang), side)]
    for sample in state.samples:
        if sample.row in first:
            page += ["", *_sample(first[sample.row], sample, side, lang)]
    return [*page, "", *_scores(before, after, lang)]


def _sample(before: Sample, after: Sample, side: int, lang: Lang) -> list[str]:
    wanted = say("app.side_wanted", lang, text=_line(after.reference))
    head = [f"▸ {part}" if number == 0 else f"  {part}" for number, part in enumerate(_cut(after.prompt, 2 * side))]
    left, right = (_cut(one.prediction, side) for one in (before, after))
    both = [
        _row("", left[at] if at < len(left) else "", right[at] if at < len(right) else "", side)
        for at in range(max(len(left), len(right)))
    ]
    return [*head, *both, *(f"  {part}" for part in _cut(wanted, 2 * side))]


def _cut(text: str, width: int) -> list[str]:
    return wrapped(_line(text), width, MOST_LINES)


def _line(text: str) -> str:
    return safe(" ".join(text.split()), LONGEST) or "-"


def _row(label: str, left: str, right: str, side: int) -> str:
    return f"{label}  {pad(left, side)}{' ' * GAP}{right}".rstrip()


def _scores(before: Eval, after: Eval, lang: Lang) -> list[str]:
    """A line for each measure that both have, in columns."""
    was, now = all_measures(before), all_measures(after)
    rows = [("", say("app.side_before", lang), say("app.side_after", lang))]
    rows += [
        (named("measure", name, lang), shown(name, was[name].value), shown(name, one.value))
        for name, one in now.items()
        if name in was
    ]
    wide = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"  {pad(name, wide[0])}   {_right(left, wide[1])}   {_right(right, wide[2])}" for name, left, right in rows
    ]
    return [say("app.side_rows", lang, rows=after.rows), *lines]


def _right(text: str, columns: int) -> str:
    return " " * (columns - width(text)) + text
