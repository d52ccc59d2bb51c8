"""The files of divided tensors can be read again, whole or as an outline, and nothing else that lies next to them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.contract.manifest import SHARD_NAME
from engine.process.heartbeat import RankStatus
from engine.training import shard_files, shard_storage

TENSORS = {"weight:a.b": torch.arange(6.0).view(3, 2), "exp_avg:a.b": torch.ones(3, 2), "weight:c": torch.zeros(4)}


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """The files that one process wrote."""
    shard_files.write(tmp_path, TENSORS, 1, RankStatus())
    return [path.name for path in shard_files.own_files(tmp_path, 0)]


def test_files_are_named_as_the_manifest_knows_them(tmp_path: Path, names: list[str]) -> None:
    assert names == sorted(path.name for path in tmp_path.iterdir())
    assert all(SHARD_NAME.fullmatch(name) for name in names)


def test_weights_and_what_the_optimizer_keeps_are_read_apart(tmp_path: Path, names: list[str]) -> None:
    weights = shard_files.whole(tmp_path, names, lambda kind: kind == shard_files.WEIGHT)
    assert weights.keys() == {"a.b", "c"}
    assert torch.equal(weights["a.b"], TENSORS["weight:a.b"])
    state = shard_files.whole(tmp_path, names, lambda kind: kind != shard_files.WEIGHT)
    assert state.keys() == {"exp_avg:a.b"}


def test_an_outline_has_the_shapes_and_takes_no_memory(tmp_path: Path, names: list[str]) -> None:
    found = shard_files.stand_ins(tmp_path, names)
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"a.b": (3, 2), "c": (4,)}
    assert all(tensor.untyped_storage().nbytes() == 4 for tensor in found.values())


def test_a_file_that_the_manifest_does_not_name_is_not_read(tmp_path: Path, names: list[str]) -> None:
    save_file({"weight:a.b": torch.full((9, 9), 7.0)}, tmp_path / "foreign.safetensors")
    assert shard_files.stand_ins(tmp_path, names)["a.b"].shape == (3, 2)


def test_large_tensors_are_divided_among_several_files() -> None:
    large = torch.empty(25, device="meta")
    assert shard_files.parts_of({"a": large, "b": large, "c": large}, 100) == {"a": 1, "b": 2, "c": 3}
    assert shard_files.parts_of({"a": large, "b": large, "c": large}, 200) == {"a": 1, "b": 1, "c": 2}


def test_a_failed_save_is_no_sign_that_another_rank_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_storage, "save_file", full)
    status = RankStatus()
    with pytest.raises(OSError, match="No space left"):
        shard_files.write(tmp_path, TENSORS, 1, status)
    assert not status.gave_up_waiting
