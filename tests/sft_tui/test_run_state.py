"""The state of a run is a function of its events."""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.contract import events
from engine.contract.bounds import as_json, read_as
from engine.contract.events import Envelope, Record
from engine.contract.messages import Message
from engine.contract.scores import Measured
from sft_tui.run_state import RunState, reduce

from .conftest import ENDED, EVAL, PLAN, STARTED, step

Put = Callable[..., Record]


def reported(*records: Record) -> RunState:
    state = RunState()
    for record in records:
        state = reduce(state, record)
    return state


def test_the_state_shows_where_the_run_is(record: Put) -> None:
    state = reported(record(STARTED), record(PLAN), record(step(1)), record(step(2)), record(EVAL))
    assert state.started == STARTED
    assert state.step is not None
    assert state.step.step == 2
    assert state.epochs == 2
    assert state.evaluation == EVAL


def lost(node: str, seen_from: str) -> events.RunEnded:
    """The end of a run whose ranks lost sight of each other, as one side writes it."""
    return events.RunEnded("machine_lost", 1, Message.of("ended_silent_machine", node=node, main=seen_from))


def written_by(src: str, record: Record) -> Record:
    return dataclasses.replace(record, envelope=dataclasses.replace(record.envelope, src=src))


@pytest.mark.parametrize("first", ["rank0", "rank1"])
def test_of_two_sides_that_live_that_of_rank_0_is_the_end(record: Put, first: str) -> None:
    ends = [written_by("rank0", record(lost("oak", "ash"))), written_by("rank1", record(lost("ash", "oak")))]
    if first == "rank1":
        ends.reverse()
    state = reported(record(STARTED), *ends)
    assert state.ended is not None
    assert (state.ended.message.args["node"], state.ended_by) == ("oak", "rank0")
    assert state.ended.evidence == {"also_lost": "rank1 (oak)"}
    kept = read_as(RunState, json.loads(json.dumps(as_json(state))))
    assert kept.ended is not None
    assert (kept.ended.evidence, kept.ended_by) == (state.ended.evidence, "rank0")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_all_sides_that_live_are_mentioned_in_any_order(record: Put, order: tuple[int, ...]) -> None:
    ends = [
        written_by("rank0", record(lost("oak", "ash"))),
        written_by("rank10", record(lost("ash", "fir"))),
        written_by("rank2", record(lost("ash", "oak"))),
        written_by("rank3", record(dataclasses.replace(lost("ash", "elm"), reason="failed"))),
    ]
    state = reported(record(STARTED), *(ends[index] for index in order))
    assert state.ended is not None
    assert state.ended.evidence == {"also_lost": "rank2 (oak), rank10 (fir)", "also_ended": "rank3 (elm)"}


def test_an_end_that_only_another_rank_could_write_counts(record: Put) -> None:
    ends = [written_by(f"rank{rank}", record(lost("ash", node))) for rank, node in ((1, "oak"), (2, "elm"))]
    state = reported(record(STARTED), *ends)
    assert state.ended == lost("ash", "oak")


def test_an_end_of_another_kind_is_mentioned_as_such(record: Put) -> None:
    state = reported(record(ENDED), written_by("rank3", record(lost("ash", "oak"))))
    assert state.ended is not None
    assert (state.ended.reason, state.ended.evidence["also_ended"]) == (ENDED.reason, "rank3 (oak)")


def test_a_later_attempt_has_its_own_end(record: Put) -> None:
    state = reported(record(lost("oak", "ash")), written_by("rank1", record(lost("ash", "oak"), 2)))
    assert state.ended == lost("ash", "oak")


def test_who_is_awaited_is_known_until_all_have_come(record: Put) -> None:
    missing = events.Notice(Message.of("ranks_awaited", there=1, ranks=2, missing="1"))
    waiting = reported(record(events.Phase("meeting", 1, 2)), record(missing))
    assert waiting.awaited == missing.message
    assert reduce(waiting, record(events.Phase("loading"))).awaited is None


def test_tokens_a_second_count_the_whole_step(record: Put) -> None:
    assert reported(record(step(1))).tokens_per_second == pytest.approx(900 / 0.45)
    assert reported().tokens_per_second == 0


TRAINING, SAVING, EVALUATING = (events.Phase(name) for name in ("training", "saving", "evaluating"))
SAVED = events.Checkpoint(1, 2, "step-00000002", 100, 1.0, [])


def test_the_time_left_uses_only_this_attempts_steps(record: Put) -> None:
    resumed = events.Plan(1000, 50, 100, 60, 16, 1, 1, "fp32", 1024)
    first = [record(PLAN), record(TRAINING), *(record(step(n)) for n in range(1, 60))]
    later = [record(resumed, 2), record(TRAINING, 2), record(step(61), 2), record(step(62), 2)]
    state = reported(*first, *later)
    assert state.seconds_left == pytest.approx(38)  # a second a step
    assert state.evaluation_unknown
    assert reported(record(PLAN)).seconds_left is None


def test_the_time_left_includes_saves_and_evaluations(record: Put) -> None:
    started = dataclasses.replace(STARTED, config={**STARTED.config, "save_steps": 25})
    steps = [step(number) for number in range(1, 51)]
    ends = [SAVING, SAVED, TRAINING, EVALUATING, EVALUATING, EVAL, TRAINING]
    state = reported(*(record(event) for event in (started, PLAN, TRAINING, *steps, *ends)))
    pace = state.pace
    assert (pace.training, pace.saving, pace.evaluating) == (51 + 1, 2, 3)
    expected = 50 * pace.training / 50 + 2 * 2 + 3  # 50 steps, saves at 75 and 100, one evaluation
    assert state.seconds_left == pytest.approx(expected)
    assert not state.evaluation_unknown


def test_a_state_is_written_and_read_back(record: Put) -> None:
    ended = events.RunEnded("failed", 1, Message.of("ended_failed", rank=1), {"a": "b"}, {"learn_rate": 0.5})
    story = (STARTED, PLAN, TRAINING, step(1, loss=float("nan")), SAVED, EVAL, ended)
    state = reported(*(record(event) for event in story))
    again = read_as(RunState, json.loads(json.dumps(as_json(state))))
    assert again.step is not None
    assert math.isnan(again.step.loss)
    finite = dataclasses.replace(state, step=None)
    assert as_json(dataclasses.replace(again, step=None)) == as_json(finite)


def test_a_better_bleu_is_the_best_and_loss_breaks_a_tie(record: Put) -> None:
    worse, tied = (dataclasses.replace(EVAL, epoch=2, step=100, loss=9.0, bleu=bleu) for bleu in (11.0, 12.25))
    assert reported(record(EVAL), record(worse)).best == EVAL
    assert reported(record(EVAL), record(tied)).best == tied


@pytest.mark.parametrize(("by", "best"), [("loss", 1), ("bleu", 0), ("chrf", 1), ("newer", 1)])
def test_the_measure_of_the_run_decides_which_is_the_best(record: Put, by: str, best: int) -> None:
    measures = {**EVAL.measures, "chrf": Measured(34.0, "nrefs:1|nc:6")}
    evaluations = [
        dataclasses.replace(EVAL, best_by=by),
        dataclasses.replace(EVAL, step=100, loss=9.0, bleu=11.0, measures=measures, best_by=by),
    ]
    assert reported(*map(record, evaluations)).best == evaluations[best]


def test_a_new_measure_judges_the_earlier_evaluations_too(record: Put) -> None:
    worse = dataclasses.replace(EVAL, step=100, loss=9.9, bleu=99.0, best_by="loss")
    assert reported(record(EVAL), record(worse)).best == EVAL
    better = dataclasses.replace(worse, loss=9.1)
    assert reported(record(EVAL), record(better)).best == better


def test_a_repeated_evaluation_is_not_the_one_before(record: Put) -> None:
    first, second = EVAL, dataclasses.replace(EVAL, step=100)
    state = reported(record(first), record(second), record(PLAN, 2), record(second, 2))
    assert (state.evaluation_before, state.evaluation) == (first, second)
    assert reported(record(first)).evaluation_before is None


def test_a_new_attempt_forgets_how_the_last_one_ended(record: Put) -> None:
    state = reported(record(PLAN), record(step(9)), record(EVAL), record(ENDED), record(STARTED, 2))
    assert state.ended is None
    assert state.best == EVAL


RESUMED = dataclasses.replace(PLAN, step=50)


def test_an_attempt_without_steps_keeps_the_progress(record: Put) -> None:
    """One that found nothing left to do, one that was stopped while it was loading, one that was refused."""
    done = reported(record(STARTED), record(PLAN), record(step(50)), record(EVAL), record(SAVED), record(ENDED))
    for ended in (ENDED, events.RunEnded("stopped", 0, Message("ended_stopped_resuming"))):
        state = done
        for event in (events.Phase("loading"), ended):
            state = reduce(state, record(event, 2))
        assert (state.step, state.evaluation, state.best, state.epochs) == (step(50), EVAL, EVAL, 2)
        assert (state.checkpoint, state.ended, state.seconds_left) == (SAVED, ended, None)
        assert not state.under_way


def test_a_resume_with_nothing_to_do_keeps_the_end(record: Put) -> None:
    nothing = events.RunEnded("finished", 0, Message("resume_finished", {"run": "sft-small-1", "steps_total": 50}))
    state = reported(record(PLAN), record(step(50)), record(ENDED), record(nothing, 2), record(nothing, 3))
    assert (state.ended, state.attempt) == (ENDED, 3)
    assert reported(record(nothing)).ended == nothing  # where nothing else is known


def test_a_resume_keeps_the_progress_and_a_fresh_run_none(record: Put) -> None:
    before = (record(STARTED), record(PLAN), record(step(50)), record(ENDED))
    resumed = reported(*before, record(STARTED, 2), record(RESUMED, 2))
    assert (resumed.step, resumed.under_way) == (step(50), True)
    assert reported(*before, record(STARTED, 2), record(PLAN, 2)).step is None


@pytest.mark.parametrize("name", ["heartbeat", "from_the_future"])
def test_other_events_change_nothing(record: Put, name: str) -> None:
    before = reported(record(PLAN), record(step(3)))
    after = reduce(before, record(events.Unknown(name, {"x": 1})))
    assert dataclasses.replace(after, seconds=before.seconds, clock=before.clock) == before


def test_the_time_taken_is_that_of_all_attempts_without_the_time_between() -> None:
    state = RunState()
    for mono, attempt in ((100.0, 1), (160.0, 1), (150.0, 1), (90_000.0, 2), (90_030.0, 2), (5.0, 3), (7.5, 3)):
        state = reduce(state, Record(Envelope("2026-01-01T00:00:00", mono, attempt, "rank0", 1), step(1)))
    assert state.seconds == 60 + 30 + 2.5


def test_readings_of_several_machines_are_kept_apart(record: Put) -> None:
    main = events.Host(10, 5, [7, 8], 1.0, 1, ranks=[0, 2], node="a")
    other = events.Host(20, 5, [9], 1.0, 1, ranks=[1], machine=1, node="b")
    gpu = {"power": "60"}
    state = reported(
        record(events.Gpu(0, "card", gpu, machine=1, node="b")),
        record(events.Gpu(0, "card", gpu, node="a")),
        record(other),
        record(main),
        record(replace(other, rank_memory=[10])),
        record(events.Gpu(0, "N/A: GPU is lost", {"power": "N/A: GPU is lost"}, machine=1, node="b")),
    )
    assert state.host == main
    assert state.hosts == (main, replace(other, rank_memory=[10]))
    assert state.memory_of_ranks == [7, 10, 8]
    assert [(one.node, one.name, one.lost) for one in state.gpus] == [("a", "card", False), ("b", "card", True)]
    assert read_as(RunState, json.loads(json.dumps(as_json(state)))) == state
