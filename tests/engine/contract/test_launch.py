"""The numbers of a launch: what is read from a record, and how many processes it means."""

import pytest

from engine.contract.bounds import read_as
from engine.contract.launch import OURS, Launch


def test_a_machine_without_gpus_has_one_process() -> None:
    assert (Launch("torchrun", 3, 0).processes, Launch("slurm", 3, 2).processes) == (3, 6)
    assert not OURS.launcher


@pytest.mark.parametrize("bad", [{"launcher": "deepspeed"}, {"nodes": 0}, {"gpus": -1}, {"endpoint": "x" * 300}])
def test_a_record_with_another_launcher_or_odd_numbers_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_as(Launch, bad)
