"""The refusal of a run whose file is missing says what a check would: the command that gets it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from engine.contract.durable import write_json
from engine.contract.messages import InputError
from engine.contract.presets import preset
from sft_tui.cli.main import cli
from sft_tui.preflight.check import Report
from sft_tui.preflight.declaration import CheckedRun, with_remedies
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Resume, Set, Start
from sft_tui.preflight.missing import STARTER, advice, converted, other_ways
from sft_tui.preflight.report import to_json


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the small preset needs, empty files but for their names."""
    monkeypatch.chdir(tmp_path)
    for name in ("train", "valid"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / f"data/sft_train_small_{name}.parquet").touch()
    (tmp_path / "model_save/my_tokenizer_sp").mkdir(parents=True)
    (tmp_path / "model_save/chat_small_t5.best.bin").touch()
    return tmp_path


def refusal(*words: str) -> InputError:
    error = CliRunner().invoke(cli, list(words)).exception
    assert isinstance(error, InputError)
    return error


def test_a_missing_model_is_replaced_by_the_one_pretrained_here(folder: Path) -> None:
    (folder / "model_save/chat_small_t5.best.bin").unlink()
    (folder / "model_save/pretrain/best").mkdir(parents=True)
    error = refusal("run", "sft-small", "--epochs", "5")
    command = "`sft-tui run sft-small --epochs 5 --pretrained_model model_save/pretrain/best`"
    for lang in ("en", "zh"):
        assert "model_save/chat_small_t5.best.bin" in error.message.what(lang)
        assert command in error.message.fix(lang)


@pytest.mark.parametrize(
    ("gone", "advised"),
    [
        ("model_save/chat_small_t5.best.bin", "sft-tui run pretrain"),
        ("model_save/my_tokenizer_sp", "sft-tui data tokenizer"),
        ("data/sft_train_small_valid.parquet", "sft-tui data import"),
        ("data/sft_train_small_train.parquet", "sft-tui data demo"),
    ],
)
def test_every_missing_file_has_a_command(folder: Path, gone: str, advised: str) -> None:
    place = folder / gone
    place.rmdir() if place.is_dir() else place.unlink()
    error = refusal("run", "sft-small")
    assert gone in error.message.what()
    assert f"`{advised}" in error.message.fix()


def test_a_test_without_a_test_file_may_take_the_validation_rows(folder: Path) -> None:
    error = refusal("test", "sft-small", "--bleu_rows", "5")
    assert "data/my_test_dataset.parquet" in error.message.what()
    command = "sft-tui test sft-small --bleu_rows 5 --test_file data/sft_train_small_valid.parquet"
    assert f"`{command}`" in error.message.fix()
    (folder / "data/sft_train_small_valid.parquet").unlink()
    assert "--test_file" in refusal("test", "sft-small").message.fix()


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv.gz"])
def test_only_files_that_may_hold_rows_are_offered(folder: Path, kind: str) -> None:
    (folder / "data/sft_train_small_train.parquet").unlink()
    os.mkfifo(folder / f"a.{kind}")
    (folder / f"b.{kind}").mkdir()
    (folder / f"c.{kind}").symlink_to(f"c.{kind}")
    (folder / "d.json").write_text('{"a":' * 10_000 + "\n{")
    assert "`sft-tui data demo" in refusal("run", "sft-small").message.fix()
    (folder / "theirs").write_text('[{"prompt": "a", "response": "b"}]')
    (folder / f"e.{kind}").symlink_to("theirs")
    assert f"`sft-tui data import e.{kind}" in refusal("run", "sft-small").message.fix()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("odd", ["{x}", "a b", "'; rm x; '", "{0}{advice}"])
def test_any_file_name_is_shown_as_it_is(odd: str) -> None:
    error = refusal("run", "sft-small", "--tokenizer", f"{odd}/tok")
    assert f"{odd}/tok" in error.message.what()
    assert "sft-tui data tokenizer" in error.message.fix()


def test_every_usable_file_and_model_is_offered(folder: Path) -> None:
    for name in ("a.jsonl", "b c.csv", "data/d.tsv"):
        (folder / name).touch()
    for name in ("smollm", "model_save/mine/best", "empty"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").touch()
    (folder / "smollm/model.safetensors").touch()
    (folder / "model_save/mine/best/pytorch_model.bin").touch()
    config = replace(preset("sft-small").config, train_file="t.parquet", validation_file="v.parquet")

    def check(**changes: str) -> Set:
        return Set("sft-small", {}, changes)

    gone = {"train_file", "validation_file", "pretrained_model"}
    rows = list(other_ways("train_file", config, gone, check))
    assert [way[0].argv[3] for way in rows[:-1]] == ["a.jsonl", "b c.csv", "data/d.tsv"]
    assert rows[-1][0].argv[:3] == ("sft-tui", "data", "demo")
    models = [way[0].changes["pretrained_model"] for way in other_ways("pretrained_model", config, gone, check)
              if isinstance(way[0], Set)]  # fmt: skip
    assert models == ["smollm", "model_save/mine/best"]


@pytest.mark.usefixtures("folder")
def test_a_run_in_the_way_has_three_fixes() -> None:
    Path("model_save/sft_small_2").mkdir()
    config, asked = preset("sft-small").config, {"epochs": 2}
    found = Finding("error", "unfinished_run", "output_dir", {"run": "sft-small-1"})
    start = Start("sft-small", asked)
    look = CheckedRun(config, lambda **changes: Set("sft-small", asked, changes), [found], start=start)
    (finding,) = with_remedies(look)
    assert finding.ways == (
        (Resume("sft-small-1"),),
        (Start("sft-small", asked, fresh=True),),
        (Set("sft-small", asked, {"output_dir": "model_save/sft_small_3"}),),
    )
    shown = to_json(Report([finding]), "en")["findings"][0]
    assert shown["commands"] == [["sft-tui", "resume", "sft-small-1"]]
    assert shown["others"][0] == [["sft-tui", "run", "sft-small", "--epochs", "2", "--fresh"]]


@pytest.mark.usefixtures("folder")
def test_a_model_named_as_on_a_hub_is_downloaded_first() -> None:
    named = refusal("run", "sft-small", "--pretrained_model", "Qwen/Qwen3-0.6B").message.text()
    assert "`sft-tui model get Qwen/Qwen3-0.6B && sft-tui " in named
    assert "--pretrained_model models/Qwen3-0.6B`" in named
    pasted = "https://www.modelscope.cn/models/Qwen/Qwen3-0.6B"
    assert (
        "sft-tui model get Qwen/Qwen3-0.6B --from modelscope"
        in refusal("run", "sft-small", "--pretrained_model", pasted).message.text()
    )


def test_a_model_that_was_downloaded_is_used(folder: Path) -> None:
    place = folder / "models/Qwen3-0.6B"
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    elsewhere = refusal("run", "sft-small", "--pretrained_model", "Qwen/Qwen3-0.6B").message.text()
    assert "sft-tui model get Qwen/Qwen3-0.6B models/Qwen--Qwen3-0.6B" in elsewhere
    write_json(place / "SOURCE.json", {"id": "Qwen/Qwen3-0.6B", "files": {"config.json": 2}})
    found = refusal("run", "sft-small", "--pretrained_model", "Qwen/Qwen3-0.6B").message.text()
    assert "model get" not in found
    assert "--pretrained_model models/Qwen3-0.6B" in found


def test_a_gguf_file_is_converted_once(folder: Path) -> None:
    def check(**changes: str) -> Set:
        return Set("sft-small", {}, changes)

    first, use_it = converted("/far/tiny.gguf", check)
    assert first.argv == ("sft-tui", "model", "import", "/far/tiny.gguf", "models/tiny")
    assert use_it.argv[-1] == "models/tiny"
    (folder / "models/tiny").mkdir(parents=True)
    assert converted("/far/tiny.gguf", check)[0].argv[-1] == "models/tiny-2"
    (folder / "models/tiny/config.json").write_text("{}")
    write_json(folder / "models/tiny/SOURCE.json", {"file": "tiny.gguf", "files": {"config.json": 2}})
    assert converted("/far/tiny.gguf", check) == (use_it,)


@pytest.mark.parametrize("name", ["chat", "chat-lora"])
def test_a_chat_model_that_is_missing_is_downloaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = preset(name).config
    gone = {"pretrained_model", "tokenizer"}
    words, actions = advice("pretrained_model", config, gone, lambda **more: Set(name, {}, more))
    assert actions[0].argv[1:] == ("model", "get", STARTER)
    assert words.key == "advice.model_starter"
    assert list(other_ways("pretrained_model", config, gone, lambda **more: Set(name, {}, more))) == []
    assert advice("tokenizer", config, gone, lambda **more: Set(name, {}, more))[1] == ()
