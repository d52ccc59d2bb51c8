"""Which files of a repository are taken, and what a repository without a model is."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from engine.contract.messages import InputError
from engine.obtaining.choice import chosen, require_named_parts
from engine.obtaining.repository import Listing, RemoteFile

NOWHERE: Any = SimpleNamespace(id="me/tiny")
WHOLE = ("config.json", "model.safetensors")


def listing(*names: str, size: int = 10, base: str = "") -> Listing:
    return Listing("main", tuple(RemoteFile(name, size) for name in names), base=base)


def taken(*names: str) -> set[str]:
    return {file.name for file in chosen(NOWHERE, listing(*WHOLE, *names)).files} - set(WHOLE)


def what(*names: str, base: str = "") -> str:
    with pytest.raises(InputError) as error:
        chosen(NOWHERE, listing(*names, base=base))
    return error.value.message.text()


@pytest.mark.parametrize(
    "name",
    ["tokenizer.model", "spiece.model", "chat_template.jinja", "additional_chat_templates/tool_use.jinja", "LICENSE",
     "LICENSE.txt", "LICENCE", "license.md", "NOTICE", "USE_POLICY.md", "generation_config.json", "merges.txt"],
)  # fmt: skip
def test_files_of_tokenizer_template_and_licence_are_taken(name: str) -> None:
    assert taken(name) == {name}


@pytest.mark.parametrize(
    "name",
    ["modeling_x.py", "pytorch_model.bin", "model.gguf", "consolidated.safetensors", "adapter_model.safetensors",
     "onnx/model.onnx", "original/consolidated.00.pth", "../config.json", "additional_chat_templates/../../x.jinja",
     "a/tokenizer.json", "tokenizer.model.py", "training_args.bin", ".gitattributes",
     "model-00001-of-00002.safetensors"],
)  # fmt: skip
def test_everything_else_is_left_out(name: str) -> None:
    choice = chosen(NOWHERE, listing(*WHOLE, name))
    assert {file.name for file in choice.files} == set(WHOLE)
    assert sum(choice.left_out.values()) == 1


def test_parts_are_taken_if_there_is_an_index_of_them() -> None:
    parts = [f"model-0000{number}-of-00002.safetensors" for number in (2, 1)]
    choice = chosen(NOWHERE, listing("config.json", *parts, "model.safetensors.index.json"))
    assert [file.name for file in choice.files][-2:] == sorted(parts)
    assert choice.files[0].name == "config.json"
    assert "without model.safetensors" in what("config.json", *parts)


def test_an_index_must_not_name_other_files() -> None:
    files = [RemoteFile("model-00001-of-00001.safetensors", 10)]
    good = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    require_named_parts(NOWHERE, json.dumps(good).encode(), files)
    for bad in (b"{", b"[]", b'{"weight_map": {"a": ["x"]}}', b'{"weight_map": {"a": "../../etc/passwd"}}'):
        with pytest.raises(InputError) as error:
            require_named_parts(NOWHERE, bad, files)
        assert error.value.message.code == "hub_part_missing"


def test_a_huge_text_file_is_left_out() -> None:
    files = (*listing(*WHOLE).files, RemoteFile("tokenizer.json", 1 << 40))
    assert "tokenizer.json" not in {file.name for file in chosen(NOWHERE, Listing("main", files)).files}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("adapter_config.json", "adapter_model.safetensors"), "an adapter of me/base"),
        (("x.Q4_K_M.gguf", "x.Q8_0.gguf", "README.md"), "GGUF alone (x.Q4_K_M.gguf, x.Q8_0.gguf)"),
        (("config.json", "pytorch_model.bin"), "pickles alone (pytorch_model.bin)"),
        (("model_index.json", "unet/model.safetensors"), "a pipeline of diffusers"),
        (("config.json", "model.onnx"), "its weights are model.onnx"),
        (("model.safetensors",), "its weights are model.safetensors"),
        (("README.md",), "without weights"),
        ((), "without weights"),
    ],
)
def test_a_repository_without_a_model_is_called_what_it_is(names: tuple[str, ...], said: str) -> None:
    assert said in what(*names, base="me/base")


def test_the_model_that_it_was_made_from_is_offered() -> None:
    assert "`sft-tui model get me/base`" in what("adapter_config.json", base="me/base")
    assert "`sft-tui model get OWNER/NAME`" in what("adapter_config.json")
