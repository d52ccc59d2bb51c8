"""Files make data sets by their names; what is not split or cannot be read as it is, is a source to import."""

from engine.contract.glances import DataGlance
from engine.contract.messages import Message
from sft_tui.found import DataFile, Found

READY = DataGlance("parquet", 90, True, ready=True, columns=("prompt", "response"))


def file(path: str, about: DataGlance | Message | None = READY, changed: int = 1) -> DataFile:
    return DataFile(path, 10, changed, about)


def test_data_sets_are_found_by_the_names_of_their_parts() -> None:
    found = Found((
        file("data/a_train.parquet"), file("data/a_valid.parquet"), file("data/a_test.parquet"),
        file("b.train.parquet", changed=2), file("b.dev.parquet"), file("c_train.parquet"), file("rows.parquet"),
    ))  # fmt: skip
    assert [one.train.path for one in found.sets()] == ["b.train.parquet", "data/a_train.parquet"]
    assert found.sets()[1].files["test_file"] == "data/a_test.parquet"
    assert found.sets()[0].files["test_file"] == "b.dev.parquet"
    assert [one.path for one in found.sources()] == ["c_train.parquet", "rows.parquet"]


def test_files_that_cannot_be_read_are_no_sources() -> None:
    found = Found((file("a.csv", Message.of("source_unreadable", path="a.csv", why="x")), file("b.csv", None)))
    assert [one.path for one in found.sources()] == ["b.csv"]
