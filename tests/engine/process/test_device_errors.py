from typing import Any

import pytest
import torch

from engine.contract import environment
from engine.contract.machine import gpus
from engine.contract.machine.driver_log import DriverLog, Xid
from engine.process.device_errors import connection_broke, gpu_of, kind_of, out_of_memory

CARD = torch.device("cuda", 1)
SHORT = (
    "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of 11.76 GiB of which 98.44 MiB is "
    "free. Including non-PyTorch memory, this process has 11.65 GiB memory in use."
)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError(SHORT), "out_of_gpu_memory"),
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be …"), "out_of_gpu_memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), "out_of_gpu_memory"),
        (
            RuntimeError("NCCL error in …: unhandled cuda error, Cuda failure 2 'out of memory'"),
            "out_of_gpu_memory",
        ),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "gpu_failed"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "gpu_failed"),
        (RuntimeError("HIP error: unspecified launch failure"), "gpu_failed"),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), "failed"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("Connection closed by peer"), "failed"),
        (ValueError("CUDA error: unspecified launch failure"), "failed"),
        (RuntimeError("the row is lost"), "failed"),
    ],
)
def test_an_error_says_whether_memory_or_the_gpu_was_the_cause(error: Exception, kind: str) -> None:
    assert kind_of(error) == kind
    assert out_of_memory(error) == (kind in ("out_of_memory", "out_of_gpu_memory"))


def test_the_sizes_of_a_full_gpu_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    found = gpu_of(torch.OutOfMemoryError(SHORT), CARD)
    sizes = {"asked": 512 << 20, "total": int(11.76 * 2**30), "free": int(98.44 * 2**20)}
    assert found == {"gpu": "0", "name": "card 0", **{name: str(size) for name, size in sizes.items()}}


def test_a_gpu_that_no_longer_answers_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_index: int) -> str:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "get_device_name", gone)
    assert gpu_of(torch.AcceleratorError("CUDA error: unspecified launch failure"), CARD) == {"gpu": "1"}


def test_an_error_of_the_host_is_about_no_gpu() -> None:
    assert gpu_of(MemoryError(), CARD) == {}
    assert gpu_of(RuntimeError("Connection closed by peer"), CARD) == {}


@pytest.mark.parametrize(
    ("error", "broke"),
    [
        (RuntimeError("[/x/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (RuntimeError("NCCL error in: …\nncclRemoteError: A call failed possibly due to a network error …"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ConnectionResetError("Connection reset by peer"), False),
    ],
)
def test_a_connection_that_another_rank_left_is_recognized(error: Exception, broke: bool) -> None:
    assert connection_broke(error) == broke


def card(place: int, index: int, **readings: str) -> dict[str, Any]:
    return {"index": index, "place": place, "name": "card", "readings": readings}


def test_without_a_supervisor_a_gpu_has_the_drivers_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "asked", lambda: ([card(0, 3, power="60"), card(1, 2, power="70")], ""))
    assert gpu_of(torch.AcceleratorError("CUDA error: unspecified launch failure"), CARD) == {"gpu": "2"}
    monkeypatch.setenv(environment.SUPERVISOR, "1")  # which finds it out itself
    assert gpu_of(torch.AcceleratorError("CUDA error: unspecified launch failure"), CARD) == {"gpu": "1"}


def test_a_gpu_that_the_driver_lost_is_known_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = card(1, 1, power="N/A: GPU is lost", utilization="N/A: GPU is lost")
    monkeypatch.setattr(gpus, "asked", lambda: ([card(0, 0, power="60"), gone], ""))
    monkeypatch.setattr(DriverLog, "xids", lambda _self: [Xid("PCI:0000:01:00", 79, "fell off")])
    found = gpu_of(torch.AcceleratorError("CUDA error: unspecified launch failure"), CARD)
    assert found == {"gpu": "1", "lost": "yes", "driver": "Xid 79 (PCI:0000:01:00): fell off"}
