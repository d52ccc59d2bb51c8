from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from engine.training.tensorfile import KINDS, save_file, stored

SHAPES = [(), (0,), (1,), (3, 0, 2), (2, 3, 5)]


def some(kind: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return (torch.randn(shape) * 50).to(kind)


def same(ours: Tensor, theirs: Tensor) -> bool:
    return ours.dtype == theirs.dtype and ours.shape == theirs.shape and torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_safetensors_reads_what_was_written(tmp_path: Path, kind: torch.dtype) -> None:
    tensors = {f"{number}.weight": some(kind, shape) for number, shape in enumerate(SHAPES)}
    save_file(tensors, tmp_path / "file")
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys()
    assert all(same(found[name], tensors[name]) for name in tensors)


def test_dtypes_may_be_mixed_and_each_is_aligned(tmp_path: Path) -> None:
    tensors = {str(number): some(kind, (3,)) for number, kind in enumerate(KINDS)}
    save_file(tensors, tmp_path / "file", {"format": "pt"})
    found = load_file(tmp_path / "file")
    assert all(same(found[name], tensors[name]) for name in tensors)
    assert all(one.start % one.dtype.itemsize == 0 for one in stored(tmp_path / "file").values())
    with safe_open(tmp_path / "file", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_tensors_out_of_order_are_written_in_order(tmp_path: Path) -> None:
    tensors = {
        "turned": torch.randn(3, 5).t(),
        "every other": torch.randn(8)[::2],
        "one for all": torch.ones(1).expand(4),
    }
    save_file(tensors, tmp_path / "file")
    found = load_file(tmp_path / "file")
    assert all(same(found[name], tensors[name]) for name in tensors)


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), st.sampled_from(SHAPES)))
@settings(max_examples=50, deadline=None)
def test_names_may_be_anything(tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[int, ...]]) -> None:
    path = tmp_path_factory.mktemp("names") / "file"
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    save_file(tensors, path)
    found = stored(path)
    assert {name: one.shape for name, one in found.items()} == {name: value.shape for name, value in tensors.items()}
    save_file(found, path.with_name("copy"))
    assert path.with_name("copy").read_bytes() == path.read_bytes()


def test_a_tensor_of_another_file_is_copied_from_there(tmp_path: Path) -> None:
    first, second = {"a": torch.randn(4, 3), "b": torch.randn(5).bfloat16()}, {"c": torch.arange(7)}
    save_file(first, tmp_path / "first")
    save_file({**stored(tmp_path / "first"), **second}, tmp_path / "both")
    found = load_file(tmp_path / "both")
    assert all(same(found[name], value) for name, value in {**first, **second}.items())


@pytest.mark.parametrize("missing", [1, 11])
def test_a_truncated_file_is_not_read(tmp_path: Path, missing: int) -> None:
    save_file({"a": torch.randn(3)}, tmp_path / "file")
    before = stored(tmp_path / "file")
    whole = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(whole[:-missing])
    with pytest.raises(OSError, match="too short"):
        save_file(before, tmp_path / "copy")
