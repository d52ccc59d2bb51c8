"""A state dict that is written a piece at a time is read as one of torch's own."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.training import tensorfile
from engine.training.statedict import ALIGNED, write_state_dict

TENSORS = {
    "shared.weight": torch.arange(3300, dtype=torch.float32).reshape(100, 33),
    "exact": torch.tensor([0.1, -0.0, float("nan")], dtype=torch.float64),
    "position": torch.tensor(7),
    "half": torch.full((3, 3), 1.5, dtype=torch.bfloat16),
    "empty": torch.empty(0, 4),
    "flags": torch.tensor([True, False]),
}
NAMES = {"lm_head.weight": "shared.weight", **{name: name for name in TENSORS}}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state_dict")
    tensorfile.save_file(TENSORS, folder / "model.safetensors")
    write_state_dict(folder / "模型.bin", tensorfile.stored(folder / "model.safetensors"), NAMES)
    return folder / "模型.bin"


@pytest.mark.parametrize("how", [{"weights_only": True}, {"weights_only": False}, {"mmap": True}])
def test_torch_reads_a_state_dict(written: Path, how: dict[str, Any]) -> None:
    state: dict[str, Tensor] = torch.load(written, **how)
    assert list(state) == list(NAMES)
    for name, source in NAMES.items():
        wanted = TENSORS[source]
        assert (state[name].dtype, state[name].shape) == (wanted.dtype, wanted.shape)
        assert torch.equal(state[name].nan_to_num(9.0), wanted.nan_to_num(9.0))
        assert state[name].is_contiguous()
    assert state["lm_head.weight"].data_ptr() == state["shared.weight"].data_ptr()  # one storage, as in the model


def test_a_model_loads_a_state_dict(tiny_t5: Path, tmp_path: Path) -> None:
    from transformers import T5ForConditionalGeneration

    from engine.training.exporting import names_of

    model = T5ForConditionalGeneration.from_pretrained(tiny_t5)
    own = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensorfile.save_file(own, tmp_path / "model.safetensors")
    write_state_dict(tmp_path / "t5.bin", tensorfile.stored(tmp_path / "model.safetensors"), names_of(model))
    torch.save(model.state_dict(), tmp_path / "torch.bin")
    ours, theirs = torch.load(tmp_path / "t5.bin"), torch.load(tmp_path / "torch.bin")
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (tmp_path / "t5.bin").stat().st_size == pytest.approx((tmp_path / "torch.bin").stat().st_size, rel=0.1)
    T5ForConditionalGeneration(model.config).load_state_dict(ours, strict=True)


def test_checksums_are_right_and_storages_can_be_mapped(written: Path) -> None:
    with zipfile.ZipFile(written) as archive:
        assert archive.testzip() is None
        parts = archive.infolist()
    raw = written.read_bytes()
    for part in parts:
        lengths = raw[part.header_offset + 26 : part.header_offset + 30]  # of the name and of what fills up
        begins = part.header_offset + 30 + sum(struct.unpack("<HH", lengths))
        assert begins % ALIGNED == 0
