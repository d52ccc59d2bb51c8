"""The config.json and the files of a model's folder are read without trusting either."""

import json
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.models.model_folder import LONGEST_CONFIG, plain, read_config, read_folder
from tests.engine.models.test_inspection import refusal, t5


@pytest.mark.parametrize("value", ["owner/kernel", {"encoder": "owner/kernel"}])
def test_a_config_that_names_foreign_code_is_refused(tmp_path: Path, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5", "_attn_implementation": value}))
    with pytest.raises(InputError, match="names foreign code: _attn_implementation"):
        read_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("name", "value"), [("num_layers", 10**5), ("vocab_size", 10**9), ("d_model", 1 << 40), ("num_labels", 10**8)]
)
def test_impossible_sizes_are_refused_at_once(tmp_path: Path, name: str, value: int) -> None:
    t5().save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, name: value}))
    error = refusal(tmp_path)
    assert error.message.code == "model_bad"
    assert name in error.message.text()


def test_a_model_in_several_files_is_read_whole(tmp_path: Path) -> None:
    net = t5()
    net.save_pretrained(tmp_path, max_shard_size="10KB")
    files = list(tmp_path.glob("*.safetensors"))
    folder = read_folder(tmp_path)
    assert len(files) > 1
    assert folder.size == sum(file.stat().st_size for file in files)
    assert {name: tuple(tensor.shape) for name, tensor in folder.tensors.items()} == {
        name: tuple(parameter.shape) for name, parameter in net.named_parameters()
    }
    assert folder.settings["num_decoder_layers"] == 3


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[]", "its config.json is not a JSON object"),
        (b" " * (LONGEST_CONFIG + 1), "its config.json has 10,000,001 bytes"),
        (b'{"a": ' * 5, ""),
        (b"\xff\xfe", ""),
        (b"[" * 100_000, ""),
    ],
    ids=["a list", "endless", "cut off", "not text", "deep"],
)
def test_a_config_that_is_none_is_refused_with_its_folder(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_config(tmp_path / "config.json")
    message = refused.value.message
    assert message.code == "model_bad"
    assert str(tmp_path) in message.text()
    assert why in message.text()


def test_only_numbers_and_short_texts_become_facts() -> None:
    settings = {"d_model": 16, "model_type": "t5", "huge": 10**30, "long": "x" * 10_000, "list": [1], "none": None}
    assert plain(settings) == {"d_model": 16, "model_type": "t5"}
