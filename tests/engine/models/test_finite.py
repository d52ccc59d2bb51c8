"""NaN and infinity in weights are found in every form that a file of weights has."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.contract.messages import InputError
from engine.models.finite import require_numbers, same_content
from engine.models.weightfile import tensors_of

KINDS = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def weights(kind: torch.dtype) -> dict[str, Any]:
    """Some weights, the extreme ones among them, and numbers of another kind."""
    most = torch.finfo(kind).max
    values = torch.tensor([most, -most, 0.0, torch.finfo(kind).tiny], dtype=kind)
    return {"a": torch.ones(5, 7, dtype=kind), "b": values, "ids": torch.arange(9), "c": torch.ones(3, dtype=kind)}


def written(state: dict[str, Any], path: Path, form: str) -> Path:
    """The file of a state dict in one of its forms."""
    if form == "safetensors":
        save_file(state, path)
    else:
        whole = {"epoch": 1, "optimizer": {"x": torch.ones(4)}, "state_dict": state} if form == "nested" else state
        torch.save(whole, path, _use_new_zipfile_serialization=form != "old")
    return path


FORMS = {"safetensors": ".safetensors", "zip": ".bin", "old": ".bin", "nested": ".ckpt"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_found(form: str, kind: torch.dtype, bad: float, tmp_path: Path) -> None:
    state = weights(kind)
    sound = written(state, tmp_path / f"sound{FORMS[form]}", form)
    require_numbers([sound], tmp_path / "notes")
    state["c"][2] = bad
    path = written(state, tmp_path / f"bad{FORMS[form]}", form)
    with pytest.raises(InputError) as refused:
        require_numbers([path], tmp_path / "notes")
    assert refused.value.message.args["tensor"] == "c"


def test_a_banned_token_may_have_an_infinite_bias(tmp_path: Path) -> None:
    save_file({"final_logits_bias": torch.tensor([[-math.inf, 0.0]])}, tmp_path / "a.safetensors")
    require_numbers([tmp_path / "a.safetensors"], tmp_path / "notes")


def test_a_finite_file_is_not_read_again_until_it_changes(tmp_path: Path) -> None:
    path = written(weights(torch.float32), tmp_path / "a.safetensors", "safetensors")
    require_numbers([path], tmp_path / "notes")
    data = bytearray(path.read_bytes())
    data[-4:] = b"\xff\xff\xff\xff"
    before = path.stat()
    path.write_bytes(data)
    with pytest.raises(InputError):
        require_numbers([path], tmp_path / "notes")
    assert path.stat().st_size == before.st_size


def test_tied_tensors_are_recognized(tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0), "b": torch.arange(6.0), "c": torch.arange(6.0) + 1}
    torch.save(state, tmp_path / "a.bin")
    found = tensors_of(tmp_path / "a.bin")
    assert same_content(tmp_path / "a.bin", found["a"], found["b"])
    assert not same_content(tmp_path / "a.bin", found["a"], found["c"])
