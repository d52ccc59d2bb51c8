"""The prediction of memory: against runs that were measured, and against common sense."""

from dataclasses import replace
from typing import Any

import pytest

from engine.contract.config import RunConfig
from engine.contract.facts import Batch, ModelFacts
from engine.models.counting import counted
from engine.models.memory import MemoryPlan
from engine.models.t5 import shape
from engine.models.t5.memory import T5Shape, predict


def shape_of(settings: dict[str, Any], freeze: str, optimizer: str = "adafactor") -> T5Shape:
    """The shape of a T5 with a head that is its embeddings."""
    config = replace(RunConfig(), freeze=freeze, optimizer=optimizer)
    tensors = shape.tensors_of(settings)
    sizes = counted(tensors, shape.part_of, shape.is_linear, config)
    facts = ModelFacts("-", "t5", rows=settings["vocab_size"], sizes=sizes, weights_bytes=0, settings=settings)
    return T5Shape.of(facts, config)


SMALL = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_heads": 4, "num_layers": 4, "vocab_size": 16_000}
LARGE = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_heads": 12, "num_layers": 10, "vocab_size": 29_298}
TINY, CHATLM = (shape_of(settings, "encoder,embeddings") for settings in (SMALL, LARGE))
PLAN = MemoryPlan(256, (), (Batch(2, 6, 245),), Batch(8, 60, 200), 45_778_008)

# Peaks of a rank in MiB (VmHWM), on two cores of an x86 with avx512_bf16: model, largest micro-batch, whether in bf16,
# what is predicted, and what was measured.
SHORT, LONG = Batch(2, 9, 195), Batch(1, 445, 497)
WHOLE = shape_of(LARGE, "")
MEASURED = [
    (TINY, Batch(2, 9, 222), True, 508, 487),
    (TINY, Batch(2, 9, 222), False, 575, 572),
    (TINY, Batch(2, 16, 208), False, 571, 614),
    (TINY, LONG, True, 549, 549),
    (TINY, Batch(13, 24, 128), True, 573, 526),
    (TINY, Batch(16, 25, 116), True, 584, 527),
    (CHATLM, SHORT, True, 1655, 1594),
    (CHATLM, SHORT, False, 1872, 1789),
    (WHOLE, SHORT, True, 2651, 2711),
]


@pytest.mark.parametrize(("of", "batch", "bf16", "expected", "peak"), MEASURED)
def test_measured_peaks_are_predicted_within_15_percent(
    of: T5Shape, batch: Batch, bf16: bool, expected: int, peak: int
) -> None:
    plan = replace(PLAN, packed=(batch,), model_file_bytes=4 * of.sizes.parameters, bf16=bf16)
    predicted = predict(of, plan).total / (1 << 20)
    assert round(predicted) == expected
    assert abs(predicted / peak - 1) < 0.15


def test_measured_adamw_peaks_are_predicted() -> None:
    plan = replace(PLAN, packed=(SHORT,), model_file_bytes=4 * CHATLM.sizes.parameters, bf16=True)
    assert abs(predict(shape_of(LARGE, "encoder,embeddings", "adamw"), plan).total / (2319 << 20) - 1) < 0.15


def test_trained_parts_need_more_than_frozen_ones() -> None:
    assert predict(shape_of(SMALL, ""), PLAN).total > predict(TINY, PLAN).total


def test_adamw_needs_more_than_adafactor() -> None:
    adamw = shape_of(SMALL, "encoder,embeddings", "adamw")
    assert predict(adamw, PLAN).total == predict(TINY, PLAN).total + adamw.sizes.optimizer_bytes - (
        TINY.sizes.optimizer_bytes
    )


def test_the_phase_with_the_peak_is_named() -> None:
    assert predict(CHATLM, PLAN).phase == "training"
    assert predict(CHATLM, replace(PLAN, generation=Batch(64, 512, 512))).phase == "generating"
    assert predict(CHATLM, replace(PLAN, model_file_bytes=4 << 30)).phase == "loading"
