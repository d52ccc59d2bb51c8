"""Paths relative to the folder that a run was started in, as seen from elsewhere."""

from pathlib import Path
from typing import Any

import pytest

from engine.contract.project import is_here, kept_in, place_of, seen_from

VALUES: dict[str, Any] = {
    "train_file": "data/train.parquet",
    "output_dir": "model_save/x",
    "epochs": 3,
    "tokenizer": "",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("project", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return str(tmp_path / "project")


def test_paths_of_another_project_lead_into_it(project: str) -> None:
    seen = seen_from(project, VALUES)
    assert seen["train_file"] == f"{project}/data/train.parquet"
    assert (seen["epochs"], seen["tokenizer"]) == (3, "")
    assert kept_in(project, seen) == VALUES


def test_a_path_outside_the_project_stays_absolute(project: str, tmp_path: Path) -> None:
    outside = str(tmp_path / "elsewhere" / "rows.parquet")
    assert kept_in(project, {"train_file": "rows.parquet"}) == {"train_file": outside}
    assert seen_from(project, {"train_file": outside}) == {"train_file": outside}


@pytest.mark.parametrize("form", ["", ".", "../elsewhere"])
def test_paths_in_the_current_folder_stay(project: str, form: str) -> None:
    assert is_here(form)
    assert seen_from(form, VALUES) == kept_in(form, VALUES) == VALUES
    assert not is_here(project)


def test_a_folder_below_the_project_is_named_from_there(project: str, tmp_path: Path) -> None:
    inside = Path(project) / "logs" / "sft-1"
    assert place_of(inside, project) == ("logs/sft-1", project)
    assert place_of(tmp_path / "logs", project) == (str(tmp_path / "logs"), project)
    assert place_of(Path("logs"), "") == ("logs", None)
