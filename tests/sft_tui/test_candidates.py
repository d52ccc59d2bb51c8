"""What a path may be: recent values, what lies here, the cache of the hub, folders below what is typed."""

from pathlib import Path

import pytest

from sft_tui import candidates as module
from sft_tui.candidates import MOST, candidates, completed, is_path, parent, split
from tests.sft_tui.test_here import model


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return here


def shown(setting: str, typed: str = "", recent: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in candidates(setting, typed, recent)]


def test_recent_values_come_first_if_they_still_exist(folder: Path) -> None:
    for name in ("a.jsonl", "b.csv"):
        (folder / name).write_text('{"question": "a", "answer": "b"}\n')
    (folder / "data").mkdir()
    found = shown("train_file", recent=("b.csv", "gone.csv"))
    assert found == [("recent", "b.csv"), ("here", "a.jsonl"), ("folder", "data/"), ("folder", "~/")]


def test_words_filter_what_is_listed(folder: Path) -> None:
    for name in ("chats-zh.jsonl", "chats-en.jsonl", "faq.csv"):
        (folder / name).write_text("{}\n")
    assert shown("train_file", "CHATS zh") == [("here", "chats-zh.jsonl")]
    assert shown("train_file", "nothing of this") == []


def test_a_model_is_here_or_the_demos_or_cached(folder: Path, tmp_path: Path) -> None:
    model(folder / "small")
    snapshot = tmp_path / ".cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots" / ("0" * 40)
    model(snapshot)
    found = shown("pretrained_model")
    assert found[:3] == [("here", "small"), ("demo", "SmolLM2-135M-Instruct"), ("cached", "Qwen/Qwen3-0.6B")]


def test_a_name_on_a_hub_is_offered_only_for_models(folder: Path) -> None:
    assert shown("pretrained_model", "Qwen/Qwen3-0.6B") == [("hub", "Qwen/Qwen3-0.6B")]
    assert shown("train_file", "Qwen/Qwen3-0.6B") == []
    model(folder / "Qwen" / "mine")
    assert shown("pretrained_model", "Qwen/m") == [("folder", "Qwen/mine/")]


def test_a_typed_path_lists_what_begins_like_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n")
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "dated.jsonl").write_text("{}\n")
    (folder / "data" / "notes.txt").write_text("x")
    assert shown("train_file", "data/") == [("folder", "data/deep/"), ("file", "data/dated.jsonl")]
    assert shown("train_file", "data/da") == [("file", "data/dated.jsonl")]
    assert ("file", "~/rows.csv") in shown("train_file", "~/")
    assert ("file", "../rows.csv") in shown("train_file", "../ro")


def test_a_new_folder_may_be_typed_for_output_only(folder: Path) -> None:
    assert shown("output_dir", "model_save/new") == [("typed", "model_save/new")]
    assert shown("pretrained_model", "./new/") == []
    assert folder.exists()


def test_tab_completes_to_what_is_common(folder: Path) -> None:
    for name in ("chats_en.jsonl", "chats_zh.jsonl"):
        (folder / name).write_text("{}\n")
    assert completed("./ch", candidates("train_file", "./ch")) == "./chats_"
    (folder / "only").mkdir()
    assert completed("./on", candidates("train_file", "./on")) == "./only/"
    assert completed("./x", candidates("train_file", "./x")) == "./x"
    assert completed("words", candidates("train_file", "words")) == "words"


@pytest.mark.parametrize(("typed", "above"), [
    ("", "../"), ("../", "../../"), ("data/", ""), ("data/deep/x", "data/"), ("/a/b/", "/a/"), ("/a/", "/"),
    ("/", "/"), ("./", ""),
])  # fmt: skip
def test_the_folder_above(typed: str, above: str) -> None:
    assert parent(typed) == above


def test_the_folder_above_home_is_absolute(tmp_path: Path) -> None:
    assert parent("~/") == f"{tmp_path.parent}/"
    assert parent("~/x/") == "~/"


@pytest.mark.parametrize(
    ("typed", "path"), [("a b", False), ("~", True), ("a/b", False), ("data/", True), ("./a/b", True)]
)
def test_words_are_not_taken_for_paths(typed: str, path: bool) -> None:
    assert is_path(typed) == path


def test_a_path_is_cut_before_its_last_name() -> None:
    assert split("data/a") == ("data/", "a")
    assert split("~") == ("~/", "")


def test_what_a_setting_takes() -> None:
    assert [module.fitting(name) for name in ("train_file", "tokenizer", "pretrained_model", "output_dir")] == [
        "rows", "tokenizer", "model", "folder",
    ]  # fmt: skip
    assert module.is_gguf("nowhere.gguf") is False


def test_no_more_folders_are_looked_into_than_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MOST + 50):
        (tmp_path / f"m{number:03}").mkdir()
    looked: list[str] = []
    monkeypatch.setattr(module, "model_at", looked.append)
    found = candidates("pretrained_model", f"{tmp_path}/")
    assert len(found) == MOST
    assert len(looked) <= MOST + 1  # and what is typed itself
