"""The peak of memory of a run with a causal model is predicted from its shape."""

from dataclasses import replace

import pytest

from engine.contract.config import RunConfig
from engine.contract.facts import Batch, ModelFacts
from engine.contract.memory import MemoryFacts, MemoryPrediction
from engine.models.causal import described, shape
from engine.models.causal.memory import predicted
from engine.models.counting import counted
from engine.models.memory import MemoryPlan
from tests.engine.models.causal.small import configuration

PLAN = MemoryPlan(256, (Batch(16, 60, 200),), (Batch(16, 40, 20, 960),), Batch(32, 60, 200), 269_060_552, bf16=True)
WIDE = {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
SMOL = {**WIDE, "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True}


def facts(kind: str, config: RunConfig, **more: object) -> ModelFacts:
    """The facts about a model of SmolLM2-135M's shape, or another."""
    parsed = configuration(kind, **{**SMOL, **more})
    tensors = shape.tensors_of(parsed)
    sizes = counted(tensors, shape.part_of, shape.is_linear, config)
    return ModelFacts("-", kind, parsed.vocab_size, sizes, 0, decoder=described.decoder_facts(parsed))


def peak(config: RunConfig, plan: MemoryPlan = PLAN, kind: str = "llama") -> MemoryPrediction:
    host = predicted(facts(kind, config), config, plan).host
    assert host is not None
    return host


WHOLE = RunConfig(pretrained_model="m", freeze="", optimizer="adamw")
LORA = replace(WHOLE, lora_rank=16)


def test_adapters_need_far_less_than_all_weights() -> None:
    assert peak(LORA).total < 0.7 * peak(WHOLE).total


@pytest.mark.parametrize("config", [LORA, WHOLE], ids=["lora", "whole"])
@pytest.mark.parametrize("bf16", [True, False])
def test_more_tokens_need_more(config: RunConfig, bf16: bool) -> None:
    plan = replace(PLAN, bf16=bf16)
    more = replace(plan, packed=(Batch(64, 40, 20, 3840),))
    assert peak(config, more).total > peak(config, plan).total


def test_what_transformers_layers_keep_is_more_than_what_ours_do() -> None:
    assert peak(LORA, kind="gemma3_text").items["activations"] > 1.3 * peak(LORA).items["activations"]


def test_padding_counts_on_a_gpu_alone() -> None:
    plan = replace(PLAN, on_gpu=True)
    one, two = (
        predicted(facts("llama", LORA), LORA, replace(plan, padded=(Batch(rows, 60, 200),))) for rows in (16, 32)
    )
    assert one.device is not None
    assert two.device is not None
    assert two.device.total > one.device.total
    assert peak(LORA, replace(PLAN, padded=(Batch(64, 60, 200),))) == peak(LORA)


def test_attention_on_a_gpu_counts_a_mask_for_all_heads_and_no_scores() -> None:
    plan = replace(PLAN, on_gpu=True, bf16=True)
    short, long = (
        predicted(facts("llama", LORA), LORA, replace(plan, padded=(Batch(rows, 0, tokens),))).device
        for rows, tokens in ((64, 64), (4, 1024))
    )
    assert short is not None
    assert long is not None
    decoder = facts("llama", LORA).decoder
    assert decoder is not None
    more = (4 * 1024**2 - 64 * 64**2) * (1 + 2 * decoder.layers + 12)
    assert long.items["activations"] - short.items["activations"] == more
    assert (short.unsure, long.unsure) == (0, 0)


def test_without_its_shape_a_models_memory_is_unknown() -> None:
    assert predicted(replace(facts("llama", LORA), decoder=None), LORA, PLAN) == MemoryFacts()


# Peaks of a rank in MiB (VmHWM), on two cores of an x86 with avx512_bf16: rows, learned tokens of each, all tokens.
@pytest.mark.parametrize(
    ("config", "batches", "expected", "measured"),
    [
        (LORA, (Batch(13, 40, 89, 1012), Batch(12, 39, 85, 991)), 1744, 1635),
        (LORA, (Batch(1, 39, 308, 347),), 1270, 1301),
        (WHOLE, (Batch(2, 39, 224, 458), Batch(9, 41, 22, 512)), 3003, 2954),
        (WHOLE, (Batch(13, 40, 89, 1012), Batch(12, 39, 85, 991)), 3229, 2961),
    ],
    ids=["lora 1024", "lora 256", "whole 512", "whole 1024"],
)
def test_measured_peaks_of_smollm2_are_predicted_within_15_percent(
    config: RunConfig, batches: tuple[Batch, ...], expected: int, measured: int
) -> None:
    found = peak(config, replace(PLAN, packed=batches, generation=Batch(32, 61, 4))).total / (1 << 20)
    assert round(found) == expected
    assert abs(found / measured - 1) < 0.15


UNTIED = {"vocab_size": 16_384, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12}
UNTIED |= {"num_attention_heads": 12, "num_key_value_heads": 4, "tie_word_embeddings": False}
TINY = {"vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
TINY |= {"num_attention_heads": 4, "num_key_value_heads": 2}


# The same of each of two ranks that a model is divided among, in fp32, with one micro-batch in each step.
@pytest.mark.parametrize(
    ("config", "model", "measured"),
    [(WHOLE, UNTIED, 1661), (LORA, UNTIED, 1212), (WHOLE, TINY, 488)],
    ids=["whole", "lora", "tiny"],
)
def test_measured_peaks_of_a_divided_llama_are_predicted_too(
    config: RunConfig, model: dict[str, object], measured: int
) -> None:
    size = facts("llama", config, **model)
    batch, reply = Batch(4, 49, 61), Batch(1, 49, 4)
    plan = MemoryPlan(256, (batch,), (), reply, 4 * size.sizes.parameters, shards=2)
    found = predicted(size, config, plan).host
    assert found is not None
    assert abs(found.total / (1 << 20) / measured - 1) < 0.15


def test_a_second_copy_of_frozen_weights_is_for_large_micro_batches() -> None:
    small, large = (peak(LORA, replace(PLAN, packed=(Batch(8, 40, 20, tokens),))) for tokens in (511, 512))
    copied = 2 * (facts("llama", LORA).sizes.parameters - 49_152 * 576)
    assert large.items["weights"] - small.items["weights"] == copied


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_rank_of_a_divided_model_needs_its_share(on_gpu: bool) -> None:
    plan = replace(PLAN, on_gpu=on_gpu)
    found = [predicted(facts("llama", WHOLE), WHOLE, replace(plan, shards=shards)) for shards in (1, 2, 8)]
    one, two, eight = (each.device if on_gpu else each.host for each in found)
    assert one is not None
    assert two is not None
    assert eight is not None
    assert two.items["optimizer"] == one.items["optimizer"] // 2
    assert two.total > eight.total
    assert one.total > two.total or not on_gpu  # on a CPU its rows are padded, and its layers are not ours
