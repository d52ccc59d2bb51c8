"""What of a model would learn, and the run that each way stands for."""

from dataclasses import replace

from sft_tui import model_choice
from tests.sft_tui.test_model_view import NEEDS, SHOWN

FILES = {"train_file": "data/chat_train.parquet", "validation_file": "v.parquet"}


def test_the_usual_way_of_a_family_comes_first() -> None:
    assert [need.way for need in model_choice.ways(SHOWN)] == ["lora", "whole", "frozen"]
    t5 = replace(SHOWN, model=replace(SHOWN.model, kind="t5"))
    assert [need.way for need in model_choice.ways(t5)] == ["frozen", "whole", "lora"]


def test_a_way_says_what_learns_and_whether_it_fits() -> None:
    name, detail = model_choice.way_words(NEEDS[2], SHOWN, 3 * 10**9, "en")
    assert name == "LoRA r 16"
    assert detail == "4.9 M of 134.5 M learn; peak 1.76 GB, fits (3.00 GB free)"
    assert "too large" in model_choice.way_words(NEEDS[0], SHOWN, 3 * 10**9, "en")[1]
    assert "peak" not in model_choice.way_words(replace(NEEDS[0], bytes=0), SHOWN, 0, "en")[1]


def test_the_settings_are_those_over_the_preset() -> None:
    assert model_choice.settings_of(NEEDS[2], SHOWN, "m", FILES) == {
        "pretrained_model": "m", "validation_file": "v.parquet",
    }  # fmt: skip


def test_a_model_without_a_tokenizer_takes_the_presets() -> None:
    need = replace(NEEDS[0], preset="sft-small", settings={"tokenizer": "", "freeze": ""})
    assert model_choice.settings_of(need, SHOWN, "m", {})["tokenizer"] == ""
    assert "tokenizer" not in model_choice.settings_of(need, replace(SHOWN, tokenizer=None), "m", {})


def test_what_is_frozen_is_said_in_words() -> None:
    assert model_choice.frozen_words("embeddings,layers.0-14", "en") == "embeddings and first 15 layers"
    assert model_choice.frozen_words("embeddings,layers.0-0", "en") == "embeddings and first 1 layer"
    assert model_choice.frozen_words("embeddings,layers.0-14", "zh") == "词嵌入和前 15 层"
    assert model_choice.frozen_words("encoder, my.layer", "en") == "encoder and my.layer"
