"""Runs compared: their scores, which settings differ, and their replies to the same prompts."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from engine.contract.config import FIELDS, setting_of
from engine.contract.scores import MEASURES, all_measures, shown
from engine.contract.texts import Lang, named, say
from sft_tui.listing import best_score, eval_loss, time_taken
from sft_tui.runs import Run

UNINTERESTING = {"output_dir", "token_store", "logging_steps", "sample_rows"}  # differ without changing the model


class Row(NamedTuple):
    """A value of each run, under one name."""

    name: str
    values: list[Any]


class Replies(NamedTuple):
    """The replies of each run to one prompt; None from a run that was not asked."""

    prompt: str
    reference: str
    replies: list[str | None]


def scores(compared: Sequence[Run], lang: Lang) -> list[Row]:
    """What decides first, as texts: the best score, the loss of its evaluation, the time; then every other measure."""
    decisive = [
        Row(say("app.compared_best", lang), [best_score(run, lang) for run in compared]),
        Row(say("app.compared_eval", lang), [eval_loss(run) for run in compared]),
        Row(say("app.compared_time", lang), [time_taken(run) for run in compared]),
    ]
    return decisive


def measures(compared: Sequence[Run], lang: Lang) -> list[Row]:
    """Every other measure of the best evaluations that one of them has, as texts."""
    known = [all_measures(run.state.best) if run.state.best else {} for run in compared]
    return [
        Row(
            say("app.compared_score", lang, measure=named("measure", name, lang)),
            [shown(name, one[name].value) if name in one else "-" for one in known],
        )
        for name in MEASURES
        if name != "loss" and any(name in one for one in known)
    ]


def settings(compared: Sequence[Run]) -> tuple[list[Row], list[Row]]:
    """The settings that differ and matter, and all others; a path is the file that it resolves to."""
    configs = [run.record.config for run in compared]
    names = dict.fromkeys(name for config in configs for name in config)
    differing, same = list[Row](), list[Row]()
    for name in names:
        row = Row(name, [config.get(name, "-") for config in configs])
        alike = len({_resolved(name, value) for value in row.values}) == 1
        if alike:
            same.append(row)
        elif name not in UNINTERESTING:
            differing.append(row)
    return differing, same


def _resolved(name: str, value: Any) -> str:
    is_path = name in FIELDS and setting_of(name).path and isinstance(value, str) and value
    return os.path.realpath(os.path.expanduser(value)) if is_path else repr(value)


def replies(compared: Sequence[Run]) -> list[Replies]:
    """What each run replied in its newest evaluation, prompt by prompt: first those that the most runs were asked."""
    found: dict[str, Replies] = {}
    for place, run in enumerate(compared):
        for sample in run.state.samples:
            one = found.setdefault(sample.prompt, Replies(sample.prompt, sample.reference, [None] * len(compared)))
            one.replies[place] = sample.prediction
    return sorted(found.values(), key=lambda one: sum(reply is None for reply in one.replies))
