"""Which run the contents of an output folder belong to."""

import pytest

from engine.contract.bounds import as_json, read_as
from engine.contract.owner import Owner, new_id


def test_ids_are_unique_and_are_read_back() -> None:
    first, second = new_id(), new_id()
    assert first != second
    assert read_as(Owner, as_json(Owner("sft-1", first))).id == first


@pytest.mark.parametrize("value", ["../../etc", "0" * 31, "G" * 32, "0" * 32 + "\n"])
def test_an_id_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="no id of a run"):
        read_as(Owner, {"id": value})


def test_an_id_decides_and_a_name_only_without_one() -> None:
    owner = Owner("sft-1", "0" * 32)
    assert owner.is_run("renamed", "0" * 32)
    assert not owner.is_run("sft-1", "1" * 32)
    assert Owner("sft-1").is_run("sft-1", "1" * 32)
    assert not Owner().is_run("", "1" * 32)


def test_an_empty_owner_file_is_not_known() -> None:
    assert not Owner().known
    assert Owner("sft-1").known


def test_fields_of_a_later_version_are_kept() -> None:
    assert as_json(read_as(Owner, {"run": "sft-1", "later": [1]}))["later"] == [1]
