"""The prediction of memory: against runs that were measured, and against common sense."""

from dataclasses import replace

import pytest

from engine.contract.facts import Batch
from engine.models.memory import MemoryPlan
from engine.models.t5.memory import T5Shape, predict

TINY = T5Shape(16_000, 256, 64, 1024, 4, 4, 4, False, True, 11_441_920, 4_197_760, True, False, True)
CHATLM = T5Shape(29_298, 768, 64, 3072, 12, 10, 10, False, True, 187_692_288, 94_396_032, True, False, True)
PLAN = MemoryPlan("adafactor", 256, (), (Batch(2, 6, 245),), Batch(8, 60, 200), 45_778_008)

# Peaks of a rank in MiB (VmHWM), on two cores of an x86 with avx512_bf16: model, largest micro-batch, whether in bf16,
# and what was measured.
SHORT, LONG = Batch(2, 9, 195), Batch(1, 445, 497)
WHOLE = replace(CHATLM, trained=CHATLM.parameters, encoder_frozen=False, embeddings_frozen=False)
MEASURED = [
    (TINY, Batch(2, 9, 222), True, 487),
    (TINY, Batch(2, 9, 222), False, 572),
    (TINY, Batch(2, 16, 208), False, 614),
    (TINY, LONG, True, 549),
    (TINY, Batch(13, 24, 128), True, 526),
    (TINY, Batch(16, 25, 116), True, 527),
    (CHATLM, SHORT, True, 1594),
    (CHATLM, SHORT, False, 1789),
    (WHOLE, SHORT, True, 2711),
]


@pytest.mark.parametrize(("shape", "batch", "bf16", "peak"), MEASURED)
def test_measured_peaks_are_predicted_within_15_percent(shape: T5Shape, batch: Batch, bf16: bool, peak: int) -> None:
    plan = replace(PLAN, packed=(batch,), model_file_bytes=4 * shape.parameters, bf16=bf16)
    predicted = predict(shape, plan).total / (1 << 20)
    assert abs(predicted / peak - 1) < 0.15


def test_measured_adamw_peaks_are_predicted() -> None:
    plan = replace(PLAN, optimizer="adamw", packed=(SHORT,), model_file_bytes=4 * CHATLM.parameters, bf16=True)
    assert abs(predict(CHATLM, plan).total / (2319 << 20) - 1) < 0.15


@pytest.mark.parametrize(
    "larger",
    [
        {"packed": (Batch(2, 6, 245), Batch(4, 100, 245))},
        {"optimizer": "adamw"},
        {"loss_chunk_tokens": 4096, "packed": (Batch(16, 6, 245),)},
        {"generation": Batch(4096, 100, 512)},
        {"model_file_bytes": 4 << 30},
    ],
    ids=lambda larger: next(iter(larger)),
)
def test_the_prediction_grows_with_what_needs_memory(larger: dict[str, object]) -> None:
    assert predict(TINY, replace(PLAN, **larger)).total > predict(TINY, PLAN).total  # type: ignore[arg-type]


def test_trained_parts_need_more_than_frozen_ones() -> None:
    whole = replace(TINY, trained=TINY.parameters, encoder_frozen=False, embeddings_frozen=False)
    assert predict(whole, PLAN).total > predict(TINY, PLAN).total


def test_the_phase_with_the_peak_is_named() -> None:
    assert predict(CHATLM, PLAN).phase == "training"
    assert predict(CHATLM, replace(PLAN, generation=Batch(64, 512, 512))).phase == "generating"
    assert predict(CHATLM, replace(PLAN, model_file_bytes=4 << 30)).phase == "loading"
