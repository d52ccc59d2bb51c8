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

from engine.contract.config import RunConfig
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


def test_a_state_dict_gives_the_model_of_the_folder(load: Load, tiny_t5: Path, tiny_t5_bin: Path) -> None:
    found, expected = load(tiny_t5_bin), load(tiny_t5)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(found.state_dict()[key], value) for key, value in expected.state_dict().items())
    ids = torch.tensor([[5, 6, 7, 1]])
    assert torch.equal(
        found.eval()(input_ids=ids, labels=ids).logits, expected.eval()(input_ids=ids, labels=ids).logits
    )


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


def test_a_state_dict_with_a_head_of_its_own_keeps_it(load: Load, tiny_t5_bin: Path, tmp_path: Path) -> None:
    state = torch.load(tiny_t5_bin, weights_only=True)
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    torch.save(state, tmp_path / "untied.bin")
    found = load(tmp_path / "untied.bin")
    assert torch.equal(found.lm_head.weight, state["lm_head.weight"])
    assert torch.equal(found.shared.weight, state["shared.weight"])


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


def test_without_a_pretrained_model_the_weights_depend_on_the_seed_alone(load: Load) -> None:
    first, again, other = load("", seed=5), load("", seed=5), load("", seed=6)
    assert torch.equal(first.shared.weight, again.shared.weight)
    assert not torch.equal(first.shared.weight, other.shared.weight)
    assert (first.config.d_model, first.config.num_layers, first.config.dropout_rate) == (32, 2, 0.1)
    assert first.lm_head.weight is first.shared.weight


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


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_a_state_dict_that_does_not_fit_is_refused_with_names(
    change: str, load: Load, tiny_t5_bin: Path, tmp_path: Path
) -> None:
    """A weight left at random trains for hours before anybody notices."""
    path = tmp_path / "changed.bin"
    torch.save(state_with(change, torch.load(tiny_t5_bin, weights_only=True)), path)
    message = refusal(lambda: load(path)).message
    assert message.code == "model_keys"
    counts = {name: message.args[f"{name}_count"] for name in ("missing", "unexpected", "mismatched")}
    assert counts == {name: int(name == change) for name in counts}
    assert str(message.args[change]).startswith("decoder.block.")


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_a_folder_with_weights_that_do_not_fit_is_refused(
    change: str, load: Load, tiny_t5: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(tiny_t5, folder)
    path = folder / "model.safetensors"
    save_file(state_with(change, load_file(path)), path, metadata={"format": "pt"})
    message = refusal(lambda: load(folder)).message
    assert message.code == "model_keys"
    assert message.args[f"{change}_count"] == 1
    assert "decoder.block." in str(message.args[change])


def test_a_state_dict_of_another_shape_is_refused(load: Load, tiny_t5_bin: Path) -> None:
    message = refusal(lambda: load(tiny_t5_bin, num_layers=3)).message
    assert message.code == "model_keys"
    assert "--num_layers" in message.fix()


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


def test_a_gated_t5_state_dict_with_its_own_head_is_loaded(load: Load, tiny_mt5: Path, tmp_path: Path) -> None:
    """Of T5 1.1, mT5 and Flan; no setting says either."""
    state = load_file(tiny_mt5 / "model.safetensors")
    torch.save(state, tmp_path / "v11.bin")
    shape: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    net = load(tmp_path / "v11.bin", num_decoder_layers=2, **shape)
    loaded = net.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert net.config.is_gated_act
    assert net.get_output_embeddings().weight is not net.get_input_embeddings().weight


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


@pytest.mark.parametrize("value", ["owner/kernel", {"encoder": "owner/kernel"}])
def test_a_config_that_names_foreign_code_is_refused(
    tiny_t5: Path, tiny_tokenizer: Path, tmp_path: Path, value: object
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_t5, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "_attn_implementation": value}))
    config = RunConfig(pretrained_model=str(folder), tokenizer=str(tiny_tokenizer))
    with pytest.raises(InputError, match="names foreign code: _attn_implementation"):
        loading.load_model(config, load_tokenizer(str(tiny_tokenizer)))
