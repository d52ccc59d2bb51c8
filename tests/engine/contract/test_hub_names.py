"""Names of models on hubs, as people type and paste them."""

from pathlib import Path

import pytest

from engine.contract.hub_names import HubName, hub_name, looks_like_hub_name
from engine.contract.messages import InputError


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B")),
        ("  gpt2 ", HubName("gpt2")),
        ("models/gpt2", HubName("gpt2")),
        ("https://huggingface.co/Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B", source="huggingface")),
        ("huggingface.co/Qwen/Qwen3-0.6B/", HubName("Qwen/Qwen3-0.6B", source="huggingface")),
        ("https://hf.co/Qwen/Qwen3-0.6B/tree/v1", HubName("Qwen/Qwen3-0.6B", "v1", "huggingface")),
        ("https://huggingface.co/gpt2/blob/main/config.json", HubName("gpt2", "main", "huggingface")),
        ("https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/x", HubName("a/b", "refs/pr/1", "huggingface")),
        ("https://hf-mirror.com/Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B", source="huggingface")),
        ("hf://Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B")),
        ("https://www.modelscope.cn/models/Qwen/Qwen3-0.6B", HubName("Qwen/Qwen3-0.6B", source="modelscope")),
        ("https://modelscope.cn/models/Qwen/Qwen3-0.6B/files", HubName("Qwen/Qwen3-0.6B", source="modelscope")),
    ],
)
def test_a_model_is_named_or_its_link_is_pasted(typed: str, meant: HubName) -> None:
    assert hub_name(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "a/b/c",
        "../x",
        "a/..",
        "/etc/passwd",
        "a b",
        "a//b",
        "ü/b",
        "https://example.com/a/b",
        "a/" + "b" * 100,
        "[x",
        "https://[::1/a",
        "http://[huggingface.co]/a/b",
    ],
)
def test_other_texts_are_not_names(typed: str) -> None:
    with pytest.raises(InputError) as error:
        hub_name(typed)
    assert error.value.message.code == "hub_name_bad"


@pytest.mark.parametrize("kind", ["datasets", "spaces", "collections"])
def test_a_link_to_something_else_says_so(kind: str) -> None:
    with pytest.raises(InputError) as error:
        hub_name(f"https://huggingface.co/{kind}/a/b")
    assert kind in error.value.message.what()


def test_the_folder_is_named_after_the_model() -> None:
    assert HubName("Qwen/Qwen3-0.6B").folder == Path("models/Qwen3-0.6B")
    assert HubName("gpt2").folder == Path("models/gpt2")


@pytest.mark.parametrize("path", ["Qwen/Qwen3-0.6B", "https://huggingface.co/Qwen/Qwen3-0.6B"])
def test_a_missing_folder_may_be_the_name_of_a_model(path: str) -> None:
    assert looks_like_hub_name(path)


@pytest.mark.parametrize(
    "path",
    ["gpt2", "./Qwen/Qwen3", "/models/Qwen", "models/tiny", "model_save/pretrain", "a/b/c", "Qwen/model.gguf",
     "Qwen/model.safetensors", "../a/b", "~/model", "[a/b", "https://a]b/c", ""],
)  # fmt: skip
def test_a_missing_folder_may_be_just_that(path: str) -> None:
    assert not looks_like_hub_name(path)


def test_a_folder_below_one_that_exists_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert looks_like_hub_name("mine/model")
    (tmp_path / "mine").mkdir()
    assert not looks_like_hub_name("mine/model")
