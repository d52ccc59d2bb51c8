"""Instances of divided cards, by a binding made for tests; the real one is in test_gpus.py."""

import sys
from typing import Any

import pytest

from engine.contract.machine import gpus, mig
from engine.contract.machine.mig import Instance


class NvmlError(Exception):
    pass


class Driver:
    """One divided card with two instances; the card may be lost, and a container may not ask about it."""

    NVMLError, NVML_DEVICE_MIG_ENABLE, NVML_TEMPERATURE_GPU = NvmlError, 1, 0

    def __init__(self, *, private: bool = False) -> None:
        self.private, self.lost = private, False

    def nvmlDeviceGetHandleByIndex(self, _index: int) -> str:
        if self.lost:
            raise NvmlError("GPU is lost")
        return "card"

    def nvmlDeviceGetMigDeviceHandleByIndex(self, _card: str, number: int) -> str:
        if number not in (2, 5):
            raise NvmlError("Not Found")
        return f"instance {number}"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        if handle == "card" and self.private:
            raise NvmlError("Insufficient Permissions")
        return {"card": "GPU-1", "instance 2": "MIG-a2", "instance 5": "MIG-a25"}[handle]

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return type("Memory", (), {"used": 1, "total": {"instance 2": 5, "instance 5": 20}[handle]})

    def __getattr__(self, name: str) -> Any:
        known = {
            "nvmlInit": None,
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetMigMode": (1, 1),
            "nvmlDeviceGetMaxMigDeviceCount": 7,
            "nvmlDeviceGetGpuInstanceId": 3,
            "nvmlDeviceGetComputeInstanceId": 0,
            "nvmlDeviceGetName": "MIG 1g.5gb",
        }
        if name not in known:
            raise AttributeError(name)
        return lambda *_: known[name]


def test_instances_are_found_by_their_uuid_or_by_the_cards() -> None:
    found = list(mig.instances(Driver(), [0]))
    assert found == [
        Instance(0, 2, ("MIG-a2", "MIG-GPU-1/3/0")),
        Instance(0, 5, ("MIG-a25", "MIG-GPU-1/3/0")),
    ]


def test_a_container_that_may_not_ask_about_the_card_has_its_instances() -> None:
    assert [one.names for one in mig.instances(Driver(private=True), [0])] == [("MIG-a2",), ("MIG-a25",)]


def test_a_whole_name_is_meant_before_one_that_it_begins() -> None:
    found = list(mig.instances(Driver(), [0]))
    assert mig.named("MIG-a2", found) == found[0]
    assert mig.named("MIG-a25", found) == found[1]
    for entry in ("MIG-a", "MIG-", "MIG-b"):
        assert mig.named(entry, found) is None


def test_an_instance_of_a_card_that_is_lost_stays_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a25")
    lines = gpus._lines()
    (well,) = next(lines)["gpus"]
    assert (well["name"], well["readings"]["memory_total"]) == ("MIG 1g.5gb", "20")
    driver.lost = True
    (lost,) = next(lines)["gpus"]
    assert (lost["index"], lost["name"]) == (0, "N/A: GPU is lost")
