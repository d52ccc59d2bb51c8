"""The switches of the original scripts, the words they print, and where they look for a model."""

import click
import pytest

from engine.contract.config import to_json
from engine.contract.presets import built_in, preset
from sft_tui.guide.configurations import CONFIGURATIONS, banner, preset_of, state_dict_of


@pytest.mark.parametrize(
    ("job", "switches", "name"),
    [
        ("train", {"is_finetune": True, "use_small_config": True}, "sft-small"),
        ("train", {"is_finetune": True, "use_fast_config": True}, "sft-fast"),
        ("train", {"is_finetune": True}, "sft"),
        ("train", {"use_large_config": True}, "pretrain-large"),
        ("train", {}, "pretrain"),
        ("train", {"is_finetune": False, "use_small_config": False}, "pretrain"),
        ("test", {"use_small_config": True}, "sft-small"),
        ("test", {"use_fast_config": True}, "sft-fast"),
        ("test", {"use_large_config": True}, "pretrain-large"),
        ("test", {"is_finetune": True, "use_small_config": True}, "sft-small"),
    ],
)
def test_switches_choose_a_preset(job: str, switches: dict[str, bool], name: str) -> None:
    assert preset_of(job, switches, "en") == name


@pytest.mark.parametrize(
    ("switches", "said", "said_zh"),
    [
        ({"use_small_config": True}, "add --is_finetune=True", "请加上 --is_finetune=True"),
        ({"use_fast_config": True}, "add --is_finetune=True", "请加上 --is_finetune=True"),
        ({"is_finetune": True, "use_large_config": True}, "leave --is_finetune out", "请去掉 --is_finetune"),
        ({"use_small_config": True, "use_fast_config": True}, "give one of them", "只能选其一"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(switches: dict[str, bool], said: str, said_zh: str) -> None:
    for lang, words in (("en", said), ("zh", said_zh)):
        with pytest.raises(click.UsageError, match=words):
            preset_of("train", switches, lang)  # type: ignore[arg-type]


def test_the_banner_has_the_line_from_the_guide() -> None:
    assert "使用 TrainConfigSFTSmall 配置（小数据集 - 适合16G内存）" in banner("sft-small", "zh").splitlines()
    assert "Using TrainConfigSFTSmall" in banner("sft-small", "en")


@pytest.mark.parametrize("name", [*CONFIGURATIONS.values(), "sft", "pretrain"])
def test_every_configuration_has_the_name_of_the_original_scripts(name: str) -> None:
    assert preset(name).original.startswith("TrainConfig")
    for lang in ("en", "zh"):
        assert preset(name).original in banner(name, lang)


def test_no_two_presets_share_an_original_name() -> None:
    names = [known.original for known in built_in().values() if known.original]
    assert len(set(names)) == len(names)


def test_a_pretraining_leaves_its_model_where_fine_tuning_looks() -> None:
    for name in ("pretrain", "pretrain-large"):
        assert state_dict_of(name, to_json(preset(name).config)) == preset("sft-small").config.pretrained_model
    elsewhere = {**to_json(preset("pretrain").config), "output_dir": "other"}
    assert state_dict_of("pretrain", elsewhere) == "other/chat_small_t5.best.bin"


def test_fine_tuning_leaves_its_model_in_its_folder() -> None:
    config = to_json(preset("sft-small").config)
    assert state_dict_of("sft-small", config) == "model_save/sft_small/chat_small_t5.best.bin"
