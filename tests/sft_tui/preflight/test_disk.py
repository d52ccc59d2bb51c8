"""What a run writes, against what is free, and folders that cannot be written."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract.config import RunConfig
from engine.contract.facts import DataFacts, Sizes, StoreFacts
from engine.contract.presets import preset
from sft_tui.preflight import check, disk
from sft_tui.preflight.disk import Store
from sft_tui.preflight.request import CheckRequest
from tests.sft_tui.some_facts import file_facts

DATA = DataFacts(
    train_file=file_facts(store=StoreFacts(3_000_000, kept=True)),
    validation_file=file_facts(store=StoreFacts(2_000_000, kept=False)),
)


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    folders = {"output_dir": str(tmp_path / "out"), "token_store": str(tmp_path / "store")}
    return replace(preset("sft-small").config, **folders)  # type: ignore[arg-type]  # these are texts


def test_the_token_store_counts_until_it_is_written(config: RunConfig, tmp_path: Path) -> None:
    store = Store.of(DATA)
    need = disk.writes(config, Sizes(1000, 1000), 4000, 10, store)
    (finding,) = disk.findings(config, need, tmp_path / "logs", store)
    assert need["token store"] == 2_000_000
    assert "token store 2.00 MB, token store 3.00 MB already written" in finding.what("en")
    assert "已写入的分词缓存 3.00 MB" in finding.what("zh")
    assert "检查点" in finding.what("zh")


def test_a_token_store_too_large_for_its_disk_is_an_error(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _path: 1 << 30)
    need = disk.writes(config, Sizes(1000, 1000), 4000, 10, Store(to_write=2 << 30))
    (finding,) = disk.findings(config, need, tmp_path / "logs", Store(to_write=2 << 30))
    assert (finding.level, finding.code) == ("error", "space_short")


@pytest.mark.parametrize("below", ["", "below"])
def test_a_dangling_link_cannot_be_written(config: RunConfig, tmp_path: Path, below: str) -> None:
    (tmp_path / "logs").symlink_to("/absent/disk")
    (finding,) = disk.unwritable(config, tmp_path / "logs" / below)
    assert (finding.level, finding.subject) == ("error", "logs")
    assert "logs is a link to /absent/disk, which does not exist" in finding.what("en")
    assert "指向 /absent/disk 的链接" in finding.what("zh")


def test_a_folder_below_a_file_cannot_be_written(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = disk.unwritable(replace(config, output_dir=str(tmp_path / "file/out")), tmp_path / "logs")
    assert (finding.level, finding.subject) == ("error", "output_dir")
    assert "is not a folder" in finding.what("en")
    assert "不是目录" in finding.what("zh")


def test_an_export_that_could_not_be_written_is_an_error(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    exported = replace(config, export_state_dict=str(tmp_path / "file" / "x.bin"))
    (finding,) = disk.unwritable(exported, tmp_path / "logs")
    assert (finding.level, finding.subject) == ("error", "export_state_dict")
    inside = replace(config, export_state_dict=str(Path(config.output_dir) / "x.bin"))
    assert [finding.subject for finding in disk.unwritable(inside, tmp_path / "logs")] == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_an_export_over_a_foreign_file_is_a_warning(config: RunConfig, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "x.bin"
    exported = replace(config, export_state_dict=str(target))
    request = CheckRequest.of("sft-small", {}, exported, tmp_path / "logs")
    assert list(check._folders(request)) == []
    if kind == "file":
        target.touch()
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to("gone")
    (finding,) = check._folders(request)
    assert (finding.level, finding.code, finding.subject) == ("warning", "export_kept", "export_state_dict")
    assert "x.bin exists, and no run of this output folder wrote it" in finding.what("en")
    assert finding.why("en")
    assert finding.why("zh")


def test_below_adapters_a_model_is_stored_once_as_it_was() -> None:
    """134.5 M parameters in bf16 with 4.9 M that learn: frozen and best 269 MB each, a checkpoint 59 MB."""
    sizes = Sizes(134_515_008, 4_884_480, 8 * 4_884_480)
    config = RunConfig(lora_rank=16, epochs=1, save_steps=100)
    need = disk.writes(config, sizes, 269_060_552, 100, disk.Store())
    slack = 16 << 20
    assert need["checkpoints"] == 3 * (12 * 4_884_480 + slack) + 269_060_552
    assert need["best"] == 2 * (269_060_552 + 4 * 4_884_480 + slack)
    assert need["best"] < disk.writes(replace(config, lora_rank=0), sizes, 269_060_552, 100, disk.Store())["best"]
