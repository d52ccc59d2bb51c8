"""What people put into a folder of a run stays when the run removes the folder."""

from pathlib import Path

from engine.training.removing import make_room, remove_checkpoint


def test_own_files_go_and_those_of_people_stay(tmp_path: Path) -> None:
    folder = tmp_path / "step-00000003"
    folder.mkdir()
    shard = "shard-00001-model-00001-of-00001.safetensors"
    for name in ("MANIFEST.json", "config.json", shard, "notes.txt"):
        (folder / name).touch()
    remove_checkpoint(folder)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == ["step-00000003-kept/notes.txt"]


def test_room_is_made_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "step-00000003").touch()
    make_room(tmp_path / "step-00000003")
    make_room(tmp_path / "step-00000004")
    assert list(tmp_path.iterdir()) == []
