"""The folder that a model is put together in."""

import contextlib
import os
from pathlib import Path

import pytest

from engine.contract.messages import InputError
from engine.contract.model_record import record_of
from engine.obtaining import staging
from engine.obtaining.staging import Staging, require_place


def test_nothing_is_left_of_a_try_that_made_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Staging(tmp_path / "a/b/model").held():
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_was_received_stays(tmp_path: Path) -> None:
    stage = Staging(tmp_path / "a/model")
    with contextlib.suppress(RuntimeError), stage.held():
        (stage.path / "config.json").write_text("{}")
        raise RuntimeError
    assert (stage.path / "config.json").is_file()


def test_only_named_files_get_to_the_place(tmp_path: Path) -> None:
    stage = Staging(tmp_path / "model")
    with stage.held():
        (stage.path / "templates").mkdir()
        for name in ("config.json", "old.json", "templates/a.jinja", "x.part"):
            (stage.path / name).write_text("{}")
        stage.finish(["config.json"], {"id": "me/tiny"})
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "SHA256SUMS", "SOURCE.json"}
    assert record_of(tmp_path / "model")["id"] == "me/tiny"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    stage = Staging(tmp_path / "model")
    (tmp_path / "elsewhere").mkdir()
    stage.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError) as error, stage.held():
        pass
    assert error.value.message.code == "model_unwritable"


def test_a_place_is_free_if_it_is_missing_or_empty(tmp_path: Path) -> None:
    require_place(tmp_path / "missing")
    require_place(tmp_path)
    (tmp_path / "x").touch()
    with pytest.raises(InputError):
        require_place(tmp_path)


def test_an_error_of_the_disk_names_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error, staging.writing(tmp_path):
        raise OSError(28, os.strerror(28))
    assert "No space left" in error.value.message.what()
