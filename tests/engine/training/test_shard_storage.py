"""Files of divided tensors are written as torch writes them, a tensor at a time, and ranks say whether they wait."""

import json
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_saver import save

from engine.process.heartbeat import RankStatus
from engine.process.job import peak_memory
from engine.training import shard_files, shard_storage
from engine.training.shard_storage import Reader, Writer
from tests.engine.training.test_shard_files import TENSORS


@pytest.mark.filterwarnings("ignore")  # torch's, about versions of the format
def test_files_are_those_of_torchs_own_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_files, "FILE_BYTES", 40)
    parts = shard_files.parts_of(TENSORS, 40)
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    shard_files.write(own, TENSORS, 1, RankStatus())
    save(dict(TENSORS), storage_writer=HuggingFaceStorageWriter(str(theirs), parts, save_distributed=True))
    names = sorted(path.name for path in theirs.iterdir())
    assert names == sorted(path.name for path in own.iterdir())
    assert len(names) == 2
    for name in names:
        assert opened(own / name) == opened(theirs / name)


def opened(path: Path) -> tuple[dict[str, object], bytes]:
    """Header and content of a file; the order of entries and of what is said of them has no meaning."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    about = header["__metadata__"]
    return {**header, "__metadata__": {**about, "DCP_SHARDING_INFO": json.loads(about["DCP_SHARDING_INFO"])}}, content[
        start:
    ]


def test_ranks_wait_for_others_until_they_write_or_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a rank whose peer is lost would seem to write for ten minutes, and one whose peer hangs to hang."""
    status, seen = RankStatus(), list[tuple[str, bool]]()

    def noting(module: object, name: str) -> None:
        work = getattr(module, name)

        def noted(*given: object) -> object:
            seen.append((name, status.waiting))
            return work(*given)

        monkeypatch.setattr(module, name, noted)

    noting(Writer, "prepare_global_plan")
    noting(shard_storage, "save_file")
    noting(Reader, "prepare_global_plan")
    noting(Reader, "_process_read_request")
    shard_files.write(tmp_path, TENSORS, 1, status)
    names = [path.name for path in shard_files.own_files(tmp_path, 0)]
    shard_files.read_into(tmp_path, names, dict(TENSORS), status)
    assert set(seen) == {("prepare_global_plan", True), ("save_file", False), ("_process_read_request", False)}
    assert not status.waiting


def test_writing_takes_no_more_memory_than_a_tensor_does(tmp_path: Path) -> None:
    """torch's own writer puts all of a file together first."""
    each = 16 << 20
    tensors = {f"weight:{number}": torch.ones(each // 4) for number in range(8)}
    shard_files.write(tmp_path / "small", TENSORS, 1, RankStatus())  # what is imported for it
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident memory counts from here
    before = peak_memory()
    shard_files.write(tmp_path / "large", tensors, 1, RankStatus())
    assert peak_memory() - before < 2 * each
