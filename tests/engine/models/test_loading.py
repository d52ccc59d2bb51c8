import builtins
import contextlib
import json
import pathlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from torch import nn
from transformers import (
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerFast,
)

from engine.contract.messages import InputError
from engine.data.tokenizer import load_tokenizer
from engine.models import freezing, loading
from engine.models.registry import parts_of
from tests.engine.models.conftest import Load


def refusal(work: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as refused:
        work()
    return refused.value


@pytest.mark.parametrize("name", ["tiny_t5", "untied_t5", "tiny_mt5", "tiny_bart"])
def test_folders_load_with_every_weight(name: str, load: Load, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    found, expected = load(folder).state_dict(), AutoModelForSeq2SeqLM.from_pretrained(folder).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["tiny_t5", "tiny_mt5", "tiny_bart"])
def test_half_precision_weights_are_trained_in_fp32(
    name: str, load: Load, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    AutoModelForSeq2SeqLM.from_pretrained(request.getfixturevalue(name), dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load(tmp_path).parameters()} == {torch.float32}


def test_a_state_dict_may_be_safetensors(load: Load, tiny_t5: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(load_file(tiny_t5 / "model.safetensors"), path)
    found, expected = load(path).state_dict(), load(tiny_t5).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_state_dict_of_an_old_torch_is_read(load: Load, tiny_t5: Path, tiny_t5_bin: Path, tmp_path: Path) -> None:
    """Before 1.6 torch.save wrote no zip file, and many published weights are that old."""
    path = tmp_path / "old.bin"
    torch.save(torch.load(tiny_t5_bin, weights_only=True), path, _use_new_zipfile_serialization=False)
    found, expected = load(path).state_dict(), load(tiny_t5).state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["tiny_t5", "tiny_t5_bin"])
def test_overwriting_a_models_file_does_not_change_the_model(
    name: str, load: Load, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Weights are mapped from their files while they are loaded, and a mapping shows what is written to the file."""
    source = request.getfixturevalue(name)
    copy = tmp_path / source.name
    shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    loaded = load(copy)
    before = {key: value.clone() for key, value in loaded.state_dict().items()}
    file = copy / "model.safetensors" if copy.is_dir() else copy
    with file.open("r+b") as opened:
        opened.write(b"\x7f" * file.stat().st_size)
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", ["tiny_t5", "tiny_bart"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_is_set_everywhere(name: str, rate: float, load: Load, request: pytest.FixtureRequest) -> None:
    net = load(request.getfixturevalue(name), dropout_rate=rate).train()
    assert {module.p for module in net.modules() if isinstance(module, nn.Dropout)} <= {rate}
    ids = torch.tensor([[5, 6, 7, 1]])
    first, second = (net(input_ids=ids, labels=ids).logits for _ in range(2))
    assert torch.equal(first, second) == (rate == 0)


def test_dropout_minus_one_keeps_the_models_own(load: Load, tiny_t5: Path) -> None:
    assert load(tiny_t5, dropout_rate=-1.0).decoder.dropout.p == 0.1


def state_with(change: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    name = "decoder.block.1.layer.2.DenseReluDense.wo.weight"
    if change == "missing":
        del state[name]
    elif change == "unexpected":
        state["decoder.block.7.layer.0.layer_norm.weight"] = torch.ones(32)
    else:
        state[name] = state[name][:, :-1].clone()
    return state


def write_bad(path: Path, kind: str) -> None:
    """Writes something that is not a state dict of a T5 at `path`."""
    contents: dict[str, Any] = {
        "plain": {"epoch": 3, "shared.weight": [1.0, 2.0]},
        "list": [torch.ones(2)],
        "empty": {},
        "numbered": {0: torch.ones(2)},
        "another_model": {"transformer.h.0.weight": torch.ones(2, 2)},
        "flat": {"shared.weight": torch.ones(4)},
    }
    if kind in contents:
        torch.save(contents[kind], path)
    else:
        path.write_bytes({"garbage": b"\x00\x01garbage" * 99, "nothing": b"", "text": b"hello\n"}[kind])


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("kind", ["garbage", "nothing", "text"])
def test_a_file_without_weights_is_refused(kind: str, suffix: str, load: Load, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    write_bad(path, kind)
    refused = refusal(lambda: load(path))
    assert refused.message.code in ("model_bad", "model_pickle")
    assert str(path) in str(refused)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("plain", "model_pickle"),
        ("list", "model_pickle"),
        ("empty", "model_pickle"),
        ("numbered", "model_pickle"),
        ("another_model", "model_kind"),
        ("flat", "model_bad"),
    ],
)
def test_a_pickle_that_is_not_a_t5_is_refused(kind: str, code: str, load: Load, tmp_path: Path) -> None:
    write_bad(tmp_path / "weights.bin", kind)
    assert refusal(lambda: load(tmp_path / "weights.bin")).message.code == code


def test_a_truncated_state_dict_is_refused(load: Load, tiny_t5_bin: Path, tmp_path: Path) -> None:
    data = tiny_t5_bin.read_bytes()
    (tmp_path / "short.bin").write_bytes(data[: len(data) // 2])
    assert refusal(lambda: load(tmp_path / "short.bin")).message.code == "model_bad"


class Hostile:
    """Unpickling it makes the file `canary`."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self) -> tuple[Any, ...]:
        return pathlib.Path.touch, (pathlib.PosixPath(self.canary),)


def save_hostile(path: Path, canary: Path, how: str) -> None:
    content = {"shared.weight": torch.ones(4, 4), "extra": Hostile(canary)}
    if how == "zip":
        torch.save(content, path)
    elif how == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(Hostile(canary)))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("how", ["zip", "legacy", "raw"])
def test_code_in_a_pickle_is_not_run(how: str, load: Load, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.bin"
    save_hostile(path, canary, how)
    refused = refusal(lambda: load(path))
    assert not canary.exists()
    assert refused.message.code == "model_pickle"
    with contextlib.suppress(RuntimeError):  # it is not a file of torch's, which is noticed after it was unpickled
        torch.load(path, weights_only=False)
    assert canary.exists()  # so the file did hold code


def test_code_in_the_pickle_of_a_folder_is_not_run(load: Load, tiny_t5: Path, tmp_path: Path) -> None:
    folder, canary = tmp_path / "model", tmp_path / "canary"
    shutil.copytree(tiny_t5, folder)
    (folder / "model.safetensors").unlink()
    save_hostile(folder / "pytorch_model.bin", canary, "zip")
    refused = refusal(lambda: load(folder))
    assert not canary.exists()
    assert refused.message.code == "model_pickle"


@pytest.mark.parametrize("what", ["model", "tokenizer"])
def test_code_next_to_a_model_is_not_run(
    what: str, monkeypatch: pytest.MonkeyPatch, load: Load, tiny_t5: Path, tiny_tokenizer: Path, tmp_path: Path
) -> None:
    """Neither at once nor after a question that somebody might answer with yes."""
    folder, canary = tmp_path / "folder", tmp_path / "canary"
    shutil.copytree(tiny_t5 if what == "model" else tiny_tokenizer, folder)
    (folder / "hostile.py").write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    name, key, auto = {
        "model": ("config.json", "model_type", {"AutoConfig": "hostile.C", "AutoModelForSeq2SeqLM": "hostile.M"}),
        "tokenizer": ("tokenizer_config.json", "tokenizer_class", {"AutoTokenizer": ["hostile.T", "hostile.T"]}),
    }[what]
    values = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**values, key: "hostile", "auto_map": auto}))
    asked: list[str] = []

    def yes(question: str = "") -> str:
        asked.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", yes)
    refused = refusal(lambda: load(folder) if what == "model" else load_tokenizer(str(folder)))
    assert refused.message.code == {"model": "model_kind", "tokenizer": "tokenizer_bad"}[what]
    assert not canary.exists()
    assert asked == []


@pytest.mark.parametrize("kind", ["empty", "no_config", "bad_config", "another_task"])
def test_a_folder_without_a_model_is_refused(kind: str, load: Load, tiny_t5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_t5, folder)
    config = folder / "config.json"
    if kind in ("empty", "no_config"):
        config.unlink()
    if kind == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    if kind == "bad_config":
        config.write_text("{")
    if kind == "another_task":
        config.write_text(json.dumps({"model_type": "bert"}))
    refused = refusal(lambda: load(folder))
    assert refused.message.code == ("model_kind" if kind in ("no_config", "another_task") else "model_bad")
    assert str(folder) in str(refused)


def word_tokenizer(words: int, **special: str) -> PreTrainedTokenizerFast:
    vocabulary = {"[PAD]": 0, "[EOS]": 1, **{f"w{index}": index for index in range(2, words)}}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "[PAD]")), **special)


@pytest.mark.parametrize("words", [500, 100_000])
def test_a_tokenizer_larger_than_the_model_is_refused(words: int, load: Load, tiny_t5: Path) -> None:
    tokenizer = word_tokenizer(words, pad_token="[PAD]", eos_token="[EOS]")
    message = refusal(lambda: load(tiny_t5, tokenizer)).message
    assert message.code == "vocabulary_mismatch"
    assert message.args["tokens"] == words


def test_a_tokenizer_smaller_than_the_model_is_used(load: Load, tiny_t5: Path) -> None:
    """Published models round their vocabulary up."""
    assert load(tiny_t5, word_tokenizer(50, pad_token="[PAD]", eos_token="[EOS]")) is not None


def test_a_tokenizer_with_another_end_token_is_refused(load: Load, tiny_t5: Path) -> None:
    message = refusal(lambda: load(tiny_t5, word_tokenizer(50, pad_token="[PAD]", eos_token="w7"))).message
    assert message.code == "special_token_mismatch"
    assert (message.args["model_id"], message.args["tokenizer_id"]) == ("1", "7")


def test_a_model_without_a_decoder_start_token_is_refused(load: Load, tiny_t5: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_t5, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "decoder_start_token_id": None}))
    (folder / "generation_config.json").unlink()
    assert refusal(lambda: load(folder)).message.code == "decoder_start_missing"


@pytest.mark.parametrize("missing", ["pad", "eos"])
def test_a_tokenizer_without_its_special_tokens_is_refused(missing: str, tmp_path: Path) -> None:
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]"}
    del special[f"{missing}_token"]
    word_tokenizer(50, **special).save_pretrained(tmp_path)
    message = refusal(lambda: load_tokenizer(str(tmp_path))).message
    assert (message.code, message.args["token"]) == ("tokenizer_token_missing", missing)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    assert refusal(lambda: load_tokenizer(str(tmp_path))).message.code == "tokenizer_bad"


@pytest.mark.parametrize("names", ["", "encoder,embeddings", "decoder"])
@pytest.mark.parametrize("name", ["tiny_t5", "untied_t5", "tiny_mt5", "tiny_bart"])
def test_a_model_is_rebuilt_from_trained_and_frozen_weights(
    load: Load, name: str, names: str, request: pytest.FixtureRequest
) -> None:
    """As a checkpoint keeps it: nothing twice, nothing left out."""
    net = load(request.getfixturevalue(name), dropout_rate=0.3)
    freezing.freeze(net, names, parts_of(net))
    learning = {key: parameter.detach().clone() for key, parameter in freezing.trained_parameters(net).items()}
    resting = {key: tensor.clone() for key, tensor in freezing.frozen_tensors(net).items()}
    assert not learning.keys() & resting.keys()
    stored = sum(tensor.numel() for tensor in (*learning.values(), *resting.values()))
    assert stored == sum(tensor.numel() for tensor in (*net.parameters(), *persistent(net)))
    config = json.loads(loading.model_config_json(net))
    again = loading.build_model(config, {**learning, **resting}, Path("step-00000001"))
    assert all(torch.equal(again.state_dict()[key], value) for key, value in net.state_dict().items())
    freezing.freeze(again, names, parts_of(again))
    ids = torch.tensor([[5, 6, 7, 1]])
    assert torch.equal(again.eval()(input_ids=ids, labels=ids).logits, net.eval()(input_ids=ids, labels=ids).logits)
    assert {**again.config.to_dict(), "_name_or_path": ""} == {**net.config.to_dict(), "_name_or_path": ""}


def persistent(net: nn.Module) -> list[torch.Tensor]:
    kept = net.state_dict(keep_vars=True)
    return [buffer for name, buffer in net.named_buffers() if name in kept]
