"""The presets hold the numbers that the models of the original system were trained with."""

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.contract import files
from engine.contract.config import check
from engine.contract.messages import InputError
from engine.contract.presets import built_in, preset, presets, remove, save, to_toml
from engine.contract.texts import Lang

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


@pytest.mark.parametrize("name", built_in())
def test_a_preset_can_be_run_as_it_is(name: str) -> None:
    check(preset(name).config)


@pytest.mark.parametrize("name", built_in())
def test_a_preset_says_what_it_is_for_in_both_languages(name: str) -> None:
    chosen = preset(name)

    assert chosen.name == name
    assert chosen.summary("en").isascii()
    assert chosen.summary("en")
    assert any("一" <= character <= "鿿" for character in chosen.summary("zh"))


def test_the_presets_that_fine_tune_are_those_that_start_from_a_model() -> None:
    from_random = {name for name, chosen in built_in().items() if not chosen.finetunes}

    assert from_random == {"pretrain", "pretrain-large", "demo-t5-pretrain"}


def test_presets_write_into_different_folders() -> None:
    folders = [chosen.config.output_dir for chosen in built_in().values()]

    assert len(set(folders)) == len(folders)


def test_the_second_half_of_the_demo_starts_from_the_model_of_the_first() -> None:
    first, second = preset("demo-t5-pretrain").config, preset("demo-t5").config

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
def test_an_unknown_preset_is_refused_with_the_nearest_first(typed: str, nearest: str) -> None:
    with pytest.raises(InputError) as refused:
        preset(typed)

    known = str(refused.value.message.args["known"]).split(", ")
    assert refused.value.exit_code == 2
    assert typed in refused.value.message.what("en")
    assert known[0] == nearest
    assert sorted(known) == sorted(built_in())
    assert ", ".join(known) in refused.value.message.fix("zh")


@pytest.mark.parametrize("typed", ["", "zzzzzz", "{name}", "训练", "\ud800", "a\0/b.toml"])
def test_an_unlike_preset_name_is_refused_with_all_names(typed: str) -> None:
    with pytest.raises(InputError) as refused:
        preset(typed)

    assert all(name in refused.value.message.fix() for name in built_in())


# Presets of one's own.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; the user's own for all folders is `config/sft-tui/presets` in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("here")
def test_a_saved_preset_holds_only_its_differences() -> None:
    path = save(
        "shop", "sft-fast", {"epochs": 2, "train_file": 'a "b"\n\u0007.parquet'}, Path("presets"), replaces=False
    )

    assert path == Path("presets/shop.toml")
    assert tomllib.loads(path.read_text())["epochs"] == 2
    shop, parent = preset("shop").config, preset("sft-fast").config
    assert (shop.epochs, shop.train_file) == (2, 'a "b"\n\u0007.parquet')
    assert (shop.batch_size_per_gpu, shop.output_dir) == (parent.batch_size_per_gpu, parent.output_dir)
    assert list(presets()) == [*built_in(), "shop"]
    assert os.listdir("presets") == ["shop.toml"]


def test_a_change_of_the_parent_changes_its_children(here: Path) -> None:
    write(here / "presets", "shop", 'parent = "sft"\nepochs = 2\n')
    write(here / "presets", "shop-fast", 'parent = "shop"\nlearn_rate = 1e-4\n')
    assert preset("shop-fast").config.epochs == 2

    write(here / "presets", "shop", 'parent = "sft"\nepochs = 12\n')

    assert preset("shop-fast").config.epochs == 12
    assert preset("shop-fast").changes() == {"learn_rate": 1e-4}


def test_a_preset_of_this_folder_takes_precedence(here: Path) -> None:
    write(here / "config" / "sft-tui" / "presets", "shop", "epochs = 7\n")
    assert preset("shop").config.epochs == 7
    write(here / "presets", "shop", "epochs = 8\n")
    assert preset("shop").config.epochs == 8


def test_a_preset_can_be_run_from_any_file(here: Path) -> None:
    write(here / "elsewhere", "shop", 'parent = "pretrain"\nepochs = 9\n')
    found = preset("elsewhere/shop.toml")
    assert (found.name, found.config.epochs, found.finetunes) == ("shop", 9, False)


@pytest.mark.parametrize(("lang", "said"), [("en", "sft with other settings"), ("zh", "在 sft 基础上修改")])
def test_a_preset_without_words_is_described_by_its_parent(lang: Lang, said: str, here: Path) -> None:
    write(here / "presets", "shop", "parent = 'sft'\nepochs = 7\n")
    assert preset("shop").summary(lang) == said
    write(here / "presets", "shop", "parent = 'sft'\nhelp = 'shop talk'\n")
    assert preset("shop").summary(lang) == "shop talk"


@pytest.mark.parametrize("name", built_in())
def test_a_preset_shown_as_toml_reads_back_as_itself(name: str, here: Path) -> None:
    chosen = preset(name)
    write(here / "presets", "copy", to_toml(chosen.parent or "sft-small", chosen.changes(), chosen.summary()))
    assert (preset("copy").config, preset("copy").help) == (chosen.config, chosen.summary())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochz = 3", "no setting named epochz"),
        ("epochs = 'three'", "epochs"),
        ("epochs = true", "epochs"),
        ("epochs = -3", "epochs"),
        ("epochs = [3]", "epochs"),
        ("[settings]\nepochs = 3", "no setting named settings"),
        ("epochs = ", "is not a preset"),
        ("parent = 3", "parent is not a text"),
        ("help = 3", "help is not a text"),
        ("a = " + "[" * 5000, "is not a preset"),
        ("x = 1\n" * 20_000, "cannot be read"),
        ("parent = 'nothing'", "no preset named nothing"),
        ("parent = 'shop'", "its own parent"),
        ("parent = 'other'", "shop → other → shop"),
    ],
)  # fmt: skip
def test_an_invalid_preset_is_refused_and_the_others_stay(text: str, said: str, here: Path) -> None:
    write(here / "presets", "shop", text)
    write(here / "presets", "other", "parent = 'shop'")
    write(here / "presets", "sound", "epochs = 4")
    with pytest.raises(InputError) as refused:
        preset("shop")
    assert said in refused.value.message.text("en")
    assert "sound" in presets()
    assert "shop" not in presets()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_pipe_in_place_of_a_preset_is_not_waited_for(make: Callable[[Path], None], here: Path) -> None:
    (here / "presets").mkdir()
    make(here / "presets" / "shop.toml")
    with pytest.raises(InputError, match="cannot be read"):
        preset("shop")


@pytest.mark.parametrize(
    ("name", "code"),
    [("sft", "preset_built_in"), ("../x", "preset_name"), (".hidden", "preset_name"), ("", "preset_name"),
     ("a" * 61, "preset_name"), ("shop", "preset_exists")],
)  # fmt: skip
def test_an_invalid_or_taken_name_is_refused(name: str, code: str, here: Path) -> None:
    write(here / "presets", "shop", "epochs = 8\n")
    with pytest.raises(InputError) as refused:
        save(name, "sft-small", {"epochs": 3}, Path("presets"), replaces=False)
    assert refused.value.message.code == code
    assert preset("shop").config.epochs == 8
    save("shop", "sft-small", {"epochs": 3}, Path("presets"), replaces=True)
    assert preset("shop").config.epochs == 3


@pytest.mark.parametrize("replaces", [True, False])
def test_saving_a_preset_does_not_write_through_a_link(replaces: bool, here: Path) -> None:
    """Neither the preset's name nor that of the file it is written to first is followed."""
    (here / "presets").mkdir()
    victim = here / "victim"
    victim.write_text("mine")
    planted = [files.staged(here / "presets" / "shop.toml"), here / "presets" / "shop.toml"]
    for link in planted if replaces else planted[:1]:
        link.symlink_to(victim)
    path = save("shop", "sft-small", {"epochs": 3}, here / "presets", replaces=replaces)
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert preset("shop").config.epochs == 3


def test_invalid_values_are_not_saved(here: Path) -> None:
    with pytest.raises(InputError):
        save("shop", "sft-small", {"epochs": -1}, here / "presets", replaces=False)
    assert not (here / "presets").exists()


def test_a_preset_of_ones_own_is_removed_and_only_such_a_one(here: Path) -> None:
    save("mine", "sft", {"epochs": 2}, Path("presets"), replaces=False)
    save("heir", "mine", {"epochs": 3}, Path("presets"), replaces=False)
    for name, code in (("sft", "preset_not_own"), ("nope", "preset_unknown"), ("mine", "preset_is_parent")):
        with pytest.raises(InputError) as refused:
            remove(name)
        assert refused.value.message.code == code
    assert remove("heir") == Path("presets/heir.toml")
    assert remove("mine") == Path("presets/mine.toml")
    assert list((here / "presets").iterdir()) == []
