"""Predicted peaks of memory."""

from engine.contract.bounds import as_json, read_as
from engine.contract.memory import MemoryFacts, MemoryPrediction


def test_the_phase_that_needs_the_most_is_the_prediction() -> None:
    phases = {"training": {"weights": 5, "gradients": 5}, "evaluation": {"weights": 5, "caches": 6}}
    peak = MemoryPrediction.largest(phases)
    assert (peak.phase, peak.total, peak.items) == ("evaluation", 11, phases["evaluation"])


def test_an_unknown_peak_stays_unknown_across_processes() -> None:
    facts = MemoryFacts(host=MemoryPrediction({"weights": 7}, "training"))
    assert read_as(MemoryFacts, as_json(facts)) == facts
