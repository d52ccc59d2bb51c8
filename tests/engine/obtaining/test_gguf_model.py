"""A model in a GGUF file made into a folder."""

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.contract.messages import InputError
from engine.contract.model_reports import ConvertedReport
from engine.contract.requests import GgufRequest
from engine.obtaining import staging
from engine.obtaining.gguf_model import convert
from tests.gguf_files import TEMPLATE, TOKENS, small_llama, write_gguf

IDS = torch.tensor([[1, 40, 50, 60, 261, 70, 2]])
Convert = Callable[..., ConvertedReport]


@pytest.fixture
def converted(tmp_path: Path) -> Convert:
    """Writes a small Llama as GGUF, with these differences, and converts it to `out`."""

    def run(net: Any = None, **how: Any) -> ConvertedReport:
        path = write_gguf(tmp_path / "tiny.gguf", net or small_llama(), **how)
        return convert(GgufRequest(str(path), str(tmp_path / "out")), lambda _: None, lambda *_: None)

    return run


def logits(folder: Path) -> torch.Tensor:
    net = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return net(IDS).logits.detach().float()  # type: ignore[no-any-return]


def refused(converted: Convert, **how: Any) -> InputError:
    with pytest.raises(InputError) as error:
        converted(**how)
    return error.value


@pytest.mark.parametrize(("kind", "dtype"), [("F32", "float32"), ("F16", "float16"), ("BF16", "bfloat16")])
def test_a_model_that_was_not_quantized_is_the_same(converted: Convert, tmp_path: Path, kind: str, dtype: str) -> None:
    net = small_llama()
    report = converted(net, kind=kind)
    assert (report.dtype, report.quantized, report.parameters) == (dtype, (), sum(w.numel() for w in net.parameters()))
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True).state_dict()
    own = net.to(getattr(torch, dtype)).state_dict()
    assert {name: torch.equal(made[name], tensor) for name, tensor in own.items()} == dict.fromkeys(made, True)
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {kind}  # noqa: SIM118


def test_a_quantized_model_is_said_to_be_inexact(converted: Convert, tmp_path: Path) -> None:
    net = small_llama()
    report = converted(net, kind="Q8_0")
    assert (report.dtype, report.quantized) == ("bfloat16", ("Q8_0",))
    own = net(IDS).logits.detach()
    assert 0 < (logits(tmp_path / "out") - own).abs().max() < 0.05 * own.abs().max()


def test_a_head_of_its_own_stays_apart(converted: Convert, tmp_path: Path) -> None:
    net = small_llama(tie_word_embeddings=False)
    converted(net)
    assert torch.equal(logits(tmp_path / "out"), net(IDS).logits)


def test_the_folder_is_an_ordinary_one(converted: Convert, tmp_path: Path) -> None:
    report = converted()
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "SOURCE.json", "SHA256SUMS",
    }  # fmt: skip
    config = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in config
    assert (config["rms_norm_eps"], config["dtype"], config["model_type"]) == (1e-5, "float32", "llama")
    assert (out / "model.safetensors").stat().st_mode & 0o777 == (out / "config.json").stat().st_mode & 0o777
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out, check=True)
    said = json.loads((out / "SOURCE.json").read_text())
    assert (said["source"], said["file"], said["licence"]) == ("gguf", "tiny.gguf", "apache-2.0")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []
    assert report.licence == "apache-2.0"


def test_a_reply_ends_with_the_token_of_the_template_first(converted: Convert, tmp_path: Path) -> None:
    report = converted(keys={"tokenizer.ggml.eos_token_id": 0})  # as files of base models have it
    assert report.stops == ("<|im_end|>", "<|endoftext|>")
    assert json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"] == [2, 0]


def test_the_file_s_own_stop_token_is_enough(converted: Convert, tmp_path: Path) -> None:
    assert converted().stops == ("<|im_end|>",)
    said = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert (said["bos_token_id"], said["eos_token_id"], said["pad_token_id"]) == (1, 2, 2)


def test_tokenizer_and_template_are_those_of_the_file(converted: Convert, tmp_path: Path) -> None:
    report = converted()
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    assert report.vocabulary == len(tokenizer) == len(TOKENS)
    assert tokenizer.chat_template == TEMPLATE
    ids = tokenizer("<|im_start|>then 12<|im_end|>", add_special_tokens=False).input_ids
    assert [TOKENS[number] for number in ids] == ["<|im_start|>", "th", "e", "n", "Ġ", "1", "2", "<|im_end|>"]


def test_a_model_that_exists_is_not_overwritten(converted: Convert, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").touch()
    assert refused(converted).message.code == "model_place_taken"


def test_missing_tensors_are_named(converted: Convert, tmp_path: Path) -> None:
    error = refused(converted, without=["blk.1.ffn_up.weight"])
    assert error.message.code == "gguf_incomplete"
    assert "layers.1.mlp.up_proj.weight" in str(error.message.args["tensor"])
    assert not (tmp_path / "out").exists()


def test_numbers_without_a_place_are_counted(converted: Convert) -> None:
    (notice,) = converted(more={"blk.0.extra.weight": [[1.0, 2.0, 3.0]]}).notices
    assert (notice.code, notice.args["count"]) == ("gguf_unused", "3")


def test_weights_that_are_not_numbers_are_refused(converted: Convert, tmp_path: Path) -> None:
    net = small_llama()
    with torch.no_grad():
        net.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan
    error = refused(converted, net=net)
    assert error.message.code == "weights_not_numbers"
    assert str(error.message.args["path"]).endswith("tiny.gguf")
    assert not list(tmp_path.glob(".tmp*"))


def test_a_full_disk_is_noticed_before_the_conversion(converted: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "free_bytes", lambda _: 1000)
    assert refused(converted).message.code == "model_no_space"


def test_the_memory_that_it_takes_is_asked_for(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def grant(count: int) -> None:
        assert count > sum(weight.numel() * 4 for weight in small_llama().parameters())
        raise Enough

    path = write_gguf(tmp_path / "tiny.gguf", small_llama())
    with pytest.raises(Enough):
        convert(GgufRequest(str(path), str(tmp_path / "out")), grant, lambda *_: None)
