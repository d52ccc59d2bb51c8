"""The presets hold the numbers that the models of the original system were trained with."""

from typing import Any

import pytest

from engine.contract.config import check
from engine.contract.messages import InputError
from engine.contract.presets import PRESETS, preset

COLUMNS = (
    "train_file",
    "validation_file",
    "epochs",
    "batch_size_per_gpu",
    "gradient_accumulation_steps",
    "learn_rate",
    "div_factor",
    "warmup_steps",
    "max_seq_len",
    "logging_steps",
    "save_steps",
    "keep_latest_n_ckp",
    "output_dir",
)
SMALL = ("data/sft_train_small_train.parquet", "data/sft_train_small_valid.parquet")
VALID = "data/my_valid_dataset.parquet"
# fmt: off
TABLE: dict[str, tuple[Any, ...]] = {
    "pretrain": (
        "data/my_train_dataset.parquet", VALID, 6, 32, 2, 1.5e-4, 50, 1024, 192, 100, 500, 8, "model_save/pretrain",
    ),
    "pretrain-large": (
        "data/my_train_dataset_6m.parquet", VALID, 6, 32, 2, 1.5e-4, 50, 1024, 192, 100, 5000, 5,
        "model_save/pretrain_large",
    ),
    "sft": (
        "data/sft_train_dataset_10k.parquet", "data/sft_valid_dataset_1k.parquet", 20, 20, 6, 5e-5, 25, 200, 256, 20,
        83, 5, "model_save/sft",
    ),
    "sft-small": (*SMALL, 3, 1, 8, 5e-5, 25, 100, 512, 50, 312, 3, "model_save/sft_small"),
    "sft-fast": (*SMALL, 5, 24, 2, 5e-5, 25, 300, 512, 100, 521, 3, "model_save/sft_fast"),
}
# fmt: on
ALL: dict[str, Any] = {
    "max_grad_norm": 1.0,
    "seed": 23333,
    "tokenizer": "model_save/my_tokenizer_sp/",
    "d_model": 768,
    "d_ff": 3072,
    "num_layers": 10,
    "num_decoder_layers": 10,
    "num_heads": 12,
    "optimizer": "adafactor",
}
FINETUNING = {"pretrained_model": "model_save/chat_small_t5.best.bin", "freeze": "encoder,embeddings"}
FROM_RANDOM = {"pretrained_model": "", "freeze": ""}


@pytest.mark.parametrize("name", TABLE)
def test_a_preset_trains_as_the_original_system_did(name: str) -> None:
    expected = dict(zip(COLUMNS, TABLE[name], strict=True)) | ALL
    expected |= FROM_RANDOM if name.startswith("pretrain") else FINETUNING

    config = preset(name).config

    assert {field: getattr(config, field) for field in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_run_as_it_is(name: str) -> None:
    check(preset(name).config)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_for_in_both_languages(name: str) -> None:
    chosen = preset(name)

    assert chosen.name == name
    assert chosen.summary("en").isascii()
    assert chosen.summary("en")
    assert any("一" <= character <= "鿿" for character in chosen.summary("zh"))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fine_tunes_exactly_where_it_starts_from_a_model(name: str) -> None:
    chosen = preset(name)

    assert chosen.finetunes == bool(chosen.config.pretrained_model)


def test_no_two_presets_write_into_the_same_folder() -> None:
    folders = [chosen.config.output_dir for chosen in PRESETS.values()]

    assert len(set(folders)) == len(folders)


def test_the_second_half_of_the_demo_starts_from_the_model_of_the_first() -> None:
    first, second = preset("demo-pretrain").config, preset("demo").config

    assert second.pretrained_model == f"{first.output_dir}/best"
    assert second.tokenizer == first.tokenizer


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [
        ("sft-smal", "sft-small"),
        ("sft_fast", "sft-fast"),
        ("pretrian", "pretrain"),
        ("pretrain-lagre", "pretrain-large"),
        ("demos", "demo"),
        ("SFT", "sft"),
    ],
)
def test_an_unknown_preset_is_refused_with_the_nearest_known_one_first(typed: str, nearest: str) -> None:
    with pytest.raises(InputError) as refused:
        preset(typed)

    known = str(refused.value.message.args["known"]).split(", ")
    assert refused.value.exit_code == 2
    assert typed in refused.value.message.what("en")
    assert known[0] == nearest
    assert sorted(known) == sorted(PRESETS)
    assert ", ".join(known) in refused.value.message.fix("zh")


@pytest.mark.parametrize("typed", ["", "zzzzzz", "{name}", "训练", "\ud800"])
def test_a_preset_like_no_other_is_refused_with_all_known_ones(typed: str) -> None:
    with pytest.raises(InputError) as refused:
        preset(typed)

    assert all(name in refused.value.message.fix() for name in PRESETS)
