"""The numbers of a launch: what is read from a record, and how many processes it means."""

import pytest

from engine.contract.bounds import read_as
from engine.contract.launch import OURS, Launch, endpoint_of


def test_a_machine_without_gpus_has_one_process() -> None:
    assert (Launch("torchrun", 3, 0).processes, Launch("slurm", 3, 2).processes) == (3, 6)
    assert not OURS.launcher


@pytest.mark.parametrize("bad", [{"launcher": "deepspeed"}, {"nodes": 0}, {"gpus": -1}, {"endpoint": "x" * 300}])
def test_a_record_with_another_launcher_or_odd_numbers_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_as(Launch, bad)


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("first", "first", "29500"),
        ("first.lab.example:1", "first.lab.example", "1"),
        ("10.0.0.1:29501", "10.0.0.1", "29501"),
        ("fd00::1", "fd00::1", "29500"),
        ("[fd00::1]:65535", "fd00::1", "65535"),
    ],
)
def test_machines_meet_at_a_host_and_a_port(given: str, host: str, port: str) -> None:
    endpoint = endpoint_of(given)
    assert Launch("torchrun", 2, 0, endpoint).meeting == (host, port)
    assert endpoint_of(endpoint) == endpoint


@pytest.mark.parametrize("given", ["first:", "first:0", "first:65536", "first:x", "a b", "", "-x", "http://a", "[a]:1"])
def test_what_is_not_a_host_and_a_port_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        endpoint_of(given)
