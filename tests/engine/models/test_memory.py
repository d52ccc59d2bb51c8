"""Everything in the plan of a run that needs memory raises the predicted peak."""

from dataclasses import replace

import pytest

from engine.contract.facts import Batch
from engine.models.memory import RUNTIME
from engine.models.t5.memory import predict, predict_on_gpu
from tests.engine.models.t5.test_memory import PLAN, TINY


@pytest.mark.parametrize(
    "larger",
    [
        {"packed": (Batch(2, 6, 245), Batch(4, 100, 245))},
        {"loss_chunk_tokens": 4096, "packed": (Batch(16, 6, 245),)},
        {"generation": Batch(4096, 100, 512)},
        {"model_file_bytes": 4 << 30},
    ],
    ids=lambda larger: next(iter(larger)),
)
def test_the_prediction_grows_with_what_needs_memory(larger: dict[str, object]) -> None:
    assert predict(TINY, replace(PLAN, **larger)).total > predict(TINY, PLAN).total  # type: ignore[arg-type]


def test_without_a_micro_batch_there_is_still_what_every_process_needs() -> None:
    bare = replace(PLAN, packed=(), generation=Batch(0, 0, 0))
    assert RUNTIME < predict(TINY, bare).total < predict(TINY, PLAN).total


def test_bf16_needs_less_than_fp32() -> None:
    plan = replace(PLAN, packed=(Batch(16, 25, 116),))
    assert predict(TINY, replace(plan, bf16=True)).total < predict(TINY, plan).total


@pytest.mark.parametrize("larger", [{"padded": (Batch(4, 100, 245),)}, {"generation": Batch(4096, 100, 512)}], ids=str)
def test_on_a_gpu_the_padded_rows_count(larger: dict[str, object]) -> None:
    plan = replace(PLAN, on_gpu=True, padded=(Batch(2, 6, 245),))
    device, _host = predict_on_gpu(TINY, replace(plan, **larger))  # type: ignore[arg-type]
    assert device.total > predict_on_gpu(TINY, plan)[0].total
    assert predict_on_gpu(TINY, replace(plan, packed=(Batch(64, 512, 512),))) == predict_on_gpu(TINY, plan)


LONG = Batch(8, 512, 512)


def test_fused_attention_keeps_a_bias_in_place_of_scores() -> None:
    """8 rows of 512 + 512 tokens, 4 heads: 2 bytes a score and layer, not 26, and the rest is what may come on top."""
    plan = replace(PLAN, on_gpu=True, bf16=True, padded=(LONG,))
    device, _ = predict_on_gpu(TINY, plan)
    scores = 8 * 4 * 512 * 512
    short = replace(plan, padded=(Batch(64, 64, 64),))  # as many tokens, an eighth of the scores
    grown = device.items["activations"] - predict_on_gpu(TINY, short)[0].items["activations"]
    assert grown == pytest.approx(scores * 7 / 8 * (2 * 2 * TINY.decoder_layers + 12), rel=0.01)
    assert device.unsure > 10 * scores * TINY.decoder_layers


def test_a_model_in_bf16_needs_less_on_a_gpu() -> None:
    plan = replace(PLAN, on_gpu=True, padded=(LONG,))
    assert predict_on_gpu(TINY, replace(plan, bf16=True))[0].total < predict_on_gpu(TINY, plan)[0].total


def test_weights_are_in_fp32_while_they_move_to_a_gpu() -> None:
    """Until what is frozen is held in bf16 alone, all weights are there in fp32."""
    plan = replace(PLAN, on_gpu=True, bf16=True, padded=(Batch(1, 2, 2),), generation=Batch(1, 2, 2))
    device, _ = predict_on_gpu(TINY, replace(plan, loss_chunk_tokens=1))
    assert device.items["weights"] >= 2 * TINY.sizes.parameters
