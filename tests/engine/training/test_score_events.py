"""What a run tells of an evaluation."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract import events
from engine.contract.events import Event, Notice, Sample
from engine.contract.scores import Measured, all_measures
from engine.training.evaluation import Score, ScoredReply
from engine.training.score_events import LOW_CEILING, SHOWN, emit_ceiling, emit_score, eval_event

CHRF = Measured(33.5, "nc:6")


class JobWithEvents:
    """A job that keeps its events."""

    def __init__(self, sample_rows: int = 3) -> None:
        self.events: list[Event] = []
        self.config = SimpleNamespace(sample_rows=sample_rows, max_seq_len=64)

    def emit(self, event: Event) -> None:
        """Keeps an event."""
        self.events.append(event)

    def notice(self, message: Any) -> None:
        """Keeps a notice."""
        self.emit(Notice(message))


def score(*texts: str, of_labels: float = 100.0) -> Score:
    """A score over rows whose prompt, reference and reply are these."""
    rows = tuple(ScoredReply(number, text, text, text) for number, text in enumerate(texts))
    return Score(9, 2.5, {"bleu": Measured(12.25, "tok:zh"), "chrf": CHRF}, of_labels, rows, 1.0)


def emit(job: Any, found: Score) -> None:
    """Reports the evaluation of an epoch."""
    emit_score(job, found, eval_event(found, 1, 5, "chrf"))


def test_an_evaluation_names_its_references() -> None:
    job: Any = JobWithEvents()
    emit(job, score("a", "b"))
    assert job.events[0] == events.Eval(1, 5, 9, 2.5, 12.25, 2, "tok:zh", 1.0, "file", {"chrf": CHRF}, "chrf")


def test_an_evaluation_without_replies_has_no_bleu() -> None:
    found = eval_event(Score(9, 2.5, {}, 0.0, (), 1.0), 1, 5, "loss")
    assert math.isnan(found.bleu)
    assert list(all_measures(found)) == ["loss"]


@pytest.mark.parametrize(("length", "shown"), [(5, 5), (SHOWN, SHOWN), (SHOWN + 1, SHOWN + 1), (10**6, SHOWN + 1)])
def test_samples_are_unchanged_texts_up_to_a_length(length: int, shown: int) -> None:
    job: Any = JobWithEvents()
    emit(job, score("长" * length))
    (sample,) = [event for event in job.events if isinstance(event, Sample)]
    assert {len(sample.prompt), len(sample.reference), len(sample.prediction)} == {shown}
    assert sample.reference.endswith("…") == (length > SHOWN)


def test_no_more_samples_are_reported_than_requested() -> None:
    job: Any = JobWithEvents(sample_rows=1)
    emit(job, score("a", "b", "c"))
    assert [type(event) for event in job.events] == [events.Eval, Sample]


@pytest.mark.parametrize(("of_labels", "reported"), [(33.5, 1), (LOW_CEILING, 0), (100.0, 0)])
def test_labels_far_from_their_texts_are_reported(of_labels: float, reported: int) -> None:
    job: Any = JobWithEvents()
    emit_ceiling(job, score("An answer of more than four words", of_labels=of_labels))
    said = [event.message for event in job.events]
    assert [message.code for message in said] == ["bleu_ceiling"] * reported
    assert all("33.5" in message.what() and "--max_seq_len" in message.fix() for message in said)


@pytest.mark.parametrize("texts", [("Yes", "No"), ("你好",), ("Rice", "Vitamin D", "Romeo and Juliet")])
def test_answers_too_short_for_bleu_are_not_blamed_on_cuts(texts: tuple[str, ...]) -> None:
    job: Any = JobWithEvents()
    emit_ceiling(job, score(*texts, of_labels=0.0))
    (message,) = [event.message for event in job.events]
    assert message.code == "bleu_short"
    assert "even perfect replies score 0.0" in message.what()
    assert "--max_seq_len" not in message.text()


def test_a_run_without_replies_has_no_ceiling() -> None:
    job: Any = JobWithEvents()
    emit_ceiling(job, score(of_labels=0.0))
    assert job.events == []
