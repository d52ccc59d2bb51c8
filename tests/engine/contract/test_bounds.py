"""Values of other processes and files become dataclasses only if they fit their bounds."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from engine.contract.bounds import (
    EXACT,
    MOST_ITEMS,
    Between,
    Count,
    Longest,
    Name,
    PathText,
    Real,
    as_json,
    read_as,
    read_error,
)
from engine.contract.import_report import FileReport
from engine.contract.manifest import Manifest
from engine.contract.messages import InputError


@dataclass(frozen=True)
class Inner:
    count: Count = 0


@dataclass(frozen=True)
class Outer:
    name: Name
    loss: Real = 0.0
    path: PathText = ""
    share: Annotated[float, Between(0, 1)] = 0.0
    few: Annotated[tuple[int, ...], Longest(2)] = ()
    inner: Inner | None = None
    by_name: dict[str, Inner] = field(default_factory=dict)


FULL = {
    "name": "一", "loss": 1.5, "path": "a/b", "share": 1.0, "few": [1, 2], "inner": {"count": 3},
    "by_name": {"x": {"count": EXACT}},
}  # fmt: skip


def test_a_dataclass_is_read_back_from_its_json() -> None:
    read = read_as(Outer, FULL)
    assert read == Outer("一", 1.5, "a/b", 1.0, (1, 2), Inner(3), {"x": Inner(EXACT)})
    assert read_as(Outer, as_json(read)) == read


def test_unknown_fields_are_ignored_and_missing_ones_have_defaults() -> None:
    assert read_as(Outer, {"name": "x", "of a later version": [1]}) == Outer("x")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_values_that_are_not_finite_are_read_from_text(value: str) -> None:
    assert str(read_as(Outer, {"name": "x", "loss": value}).loss) == str(float(value))


@pytest.mark.parametrize(
    "change",
    [
        {"name": None}, {"name": 1}, {"name": "x" * 201}, {"loss": "1.5"}, {"loss": True}, {"loss": 1e61},
        {"path": "a\0b"}, {"share": 1.01}, {"share": "NaN"}, {"few": [1, 2, 3]}, {"few": [1.5]}, {"few": "12"},
        {"inner": {"count": -1}}, {"inner": {"count": EXACT + 1}}, {"inner": []}, {"by_name": {"x": 1}},
        {"by_name": {str(n): {} for n in range(MOST_ITEMS + 1)}},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        read_as(Outer, {**FULL, **change})


@pytest.mark.parametrize("value", [None, [], "x", 1, {}])
def test_something_other_than_the_object_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_as(Outer, value)


def test_an_error_of_another_process_is_read_back() -> None:
    error = InputError("model_missing", path="一\n二", setting="pretrained_model")
    read = read_error(as_json(error.message))
    assert (read.message.code, read.message.args) == (error.message.code, error.message.args)


def test_an_error_says_which_field_it_is() -> None:
    with pytest.raises((TypeError, ValueError), match=r"^files: "):
        read_as(Manifest, {"files": {"a": {"size": -1}}})
    with pytest.raises(TypeError, match="no path"):
        read_as(FileReport, {"records": 1})
