"""What is said of GPUs holds for the real binding over a driver library of our own, and no driver disturbs who asks."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.contract.machine import gpus
from engine.contract.machine.gpus import gpu_count, on_cpu, visible
from tests import nvml
from tests.processes import run, until

LIMIT = 40.0  # seconds, for what takes a tenth of one; a driver that hangs does so for 60

Driver = Callable[[str], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(library: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Gives the processes that are started from now on a driver that acts in the way named."""
    return lambda mode: nvml.use(monkeypatch, library, mode)


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither a child, living or dead, nor a count that was asked for with another driver."""
    before = nvml.children()
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(gpus, "COUNT_SECONDS", LIMIT)  # a slow machine is not a driver that hangs
    monkeypatch.setattr(gpus, "REAP_SECONDS", LIMIT)  # what is killed ends, however slow the machine
    gpus.found.cache_clear()
    yield
    gpus.found.cache_clear()
    assert nvml.children() <= before


def printed(folder: Path) -> str:
    """What the process prints when it is asked once."""
    result = run(*gpus.command("--once"), folder=folder, limit=LIMIT)
    assert (result.code, result.err, result.out.count("\n")) == (0, "", 1)
    return result.out


def said(folder: Path) -> tuple[list[dict[str, Any]], str]:
    body = json.loads(printed(folder))
    return body["gpus"], body["why"]


def test_two_gpus_give_all_readings(driver: Driver, tmp_path: Path) -> None:
    driver("two_gpus")
    first = {
        "utilization": "93",
        "memory_used": str(6 * 2**30),
        "memory_total": str(12 * 2**30),
        "temperature": "71",
        "power": "148.2",
        "power_limit": "170.0",
    }
    second = {**first, "utilization": "92", "memory_used": str(7 * 2**30), "temperature": "72", "power": "149.2"}
    name = "NVIDIA GeForce RTX 3060"
    about = {"name": name, "capability": "8.6"}
    both = enumerate((first, second))
    expected = [{"index": index, "place": index, **about, "readings": each} for index, each in both]
    assert said(tmp_path) == (expected, "")
    assert gpu_count() == 2


def test_a_training_knows_number_name_and_memory_of_its_gpus(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order in which ranks take them, which is that of CUDA, by the numbers of the driver."""
    driver("unlike")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    one, other = gpus.usable()
    assert (one.index, one.name, one.total, one.free, one.bf16) == (1, "NVIDIA GeForce RTX 3070", 2**33, 2**30, True)
    assert (other.index, other.name, other.total, other.free) == (0, "NVIDIA GeForce RTX 3060", 12 * 2**30, 6 * 2**30)


def test_a_gpu_before_ampere_does_not_compute_in_bf16(driver: Driver) -> None:
    driver("old_card")
    assert [gpu.bf16 for gpu in gpus.usable()] == [True, False]


def test_a_missing_reading_does_not_hide_the_others(driver: Driver, tmp_path: Path) -> None:
    driver("no_power")
    (readings, _) = (gpu["readings"] for gpu in said(tmp_path)[0])
    assert readings["power"] == readings["power_limit"] == "N/A: Not Supported"
    assert (readings["utilization"], readings["temperature"]) == ("93", "71")


def test_a_driver_without_a_function_gives_the_rest(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.use(monkeypatch, nvml.build(tmp_path_factory.mktemp("old"), "OLD_DRIVER"), "two_gpus")
    (readings, _) = (gpu["readings"] for gpu in said(tmp_path)[0])
    assert readings["utilization"] == "N/A: Function Not Found"
    assert readings["temperature"] == "41"  # by the function that there was before
    assert readings["memory_total"] == str(12 * 2**30)


def test_a_lost_gpu_is_listed_and_does_not_count(driver: Driver, tmp_path: Path) -> None:
    driver("lost")
    well, lost = said(tmp_path)[0]
    assert well["readings"]["temperature"] == "71"
    assert (lost["index"], lost["name"]) == (1, "N/A: GPU is lost")
    assert lost["readings"] == dict.fromkeys(well["readings"], "N/A: GPU is lost")
    assert gpu_count() == 1


def test_foreign_gpu_names_are_sent_as_ascii(driver: Driver, tmp_path: Path) -> None:
    driver("hostile_name")
    line = printed(tmp_path)
    assert line.isascii()
    assert line.rstrip("\n").isprintable()
    first, second = json.loads(line)["gpus"]
    assert first["name"] == "\x1b]0;owned\x07 显卡\n"
    assert second["name"] == "\ufffd\ufffd[/x]"  # which is not UTF-8, and costs no reading
    assert second["readings"]["temperature"] == "72"


def test_output_of_the_driver_does_not_mix_with_readings(driver: Driver, tmp_path: Path) -> None:
    driver("chatty")
    result = run(*gpus.command("--once"), folder=tmp_path, limit=LIMIT)
    assert result.out.count("\n") == 1
    assert len(json.loads(result.out)["gpus"]) == 2
    assert "NVRM" in result.err
    assert gpu_count() == 2


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("mismatch", "RM has detected an NVML/RM version mismatch."),
        ("strange", "\x1b[31m奇怪"),
        ("no_gpu", "the driver knows no GPU"),
    ],
)
def test_no_gpus_come_with_the_reason(driver: Driver, tmp_path: Path, mode: str, why: str) -> None:
    driver(mode)
    assert said(tmp_path) == ([], why)
    assert gpu_count() == 0


def test_a_library_without_init_gives_a_reason(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.use(monkeypatch, nvml.build(tmp_path_factory.mktemp("none"), "NO_INIT"), "two_gpus")
    assert said(tmp_path) == ([], "Function Not Found")


def test_a_file_that_is_not_a_library_gives_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"\x7fELF")
    nvml.use(monkeypatch, tmp_path, "two_gpus")
    assert said(tmp_path) == ([], "NVML Shared Library Not Found")


def test_a_missing_binding_gives_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pynvml.py").write_text("raise ImportError('no binding')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert said(tmp_path) == ([], "no binding")


@pytest.mark.parametrize(
    ("asked", "indices"),
    [
        ("0", [0]),
        ("1,0", [1, 0]),  # in CUDA's order, each with NVML's index
        (" 1 ", [1]),
        ("0,-1,1", [0]),
        ("1,7,0", [1]),
        ("GPU-aab2", [1]),
        ("GPU-aab20000-0000,GPU-aab1", [1, 0]),
    ],
)
def test_only_visible_gpus_are_listed(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, indices: list[int]
) -> None:
    driver("two_gpus")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    found = said(tmp_path)[0]
    assert [gpu["index"] for gpu in found] == indices
    assert [gpu["place"] for gpu in found] == list(range(len(indices)))


@pytest.mark.parametrize("asked", ["", "-1", "none", "0,0", "7", "GPU-aab", "GPU-"])
def test_hidden_gpus_do_not_count(driver: Driver, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    driver("two_gpus")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert gpu_count() == 0
    assert on_cpu(2)
    assert on_cpu(1) is False  # it may find a device that NVML does not know


@pytest.mark.parametrize("asked", ["", "-1", "none"])
def test_the_driver_is_not_asked_if_not_wanted(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    driver("segfault")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert said(tmp_path) == ([], "CUDA_VISIBLE_DEVICES names no GPU")


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("2,0,1", [2, 0, 1]),
        ("1gpu2,2ampere", [1, 2]),
        ("+1", [1]),
        ("1,GPU-a", [1]),
        ("GPU-a,1", [0]),
        ("GPU-a,GPU-b1,GPU-a", []),
        ("GPU-a,GPU-b,GPU-b1", [0]),
        ("GPU-b1,GPU-x,GPU-a", [1]),
        ("99999999999999999999", []),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(asked: str, chosen: list[int]) -> None:
    assert visible(asked, ["GPU-a", "GPU-b1", "GPU-b2"]) == chosen


FIRST, SECOND = "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA A100-SXM4-40GB MIG 3g.20gb"


@pytest.mark.parametrize(
    ("asked", "name", "gigabytes"),
    [
        ("MIG-5a6b0000-0002", SECOND, 20),
        ("MIG-5a6b0000-0001,MIG-5a6b0000-0002", FIRST, 5),  # CUDA shows a process one instance
        ("MIG-GPU-aab20000-0000/2/0", SECOND, 20),  # as drivers before 470 have it
        ("1", FIRST, 5),
        ("GPU-aab2", FIRST, 5),
        (None, FIRST, 5),  # and no whole GPU next to it
    ],
)
def test_an_instance_of_a_gpu_has_the_memory_of_the_instance(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, asked: str | None, name: str, gigabytes: int
) -> None:
    driver("mig")
    if asked is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    (one,) = gpus.usable()
    assert (one.index, one.name, one.total, one.free) == (1, name, gigabytes * 2**30, (gigabytes - 1) * 2**30)
    assert one.bf16
    assert gpus.fault() == ""
    (gpu,) = gpus.found()[0]
    assert gpu["place"] == 0
    assert (gpu["readings"]["temperature"], gpu["readings"]["power"]) == ("72", "149.2")  # of the card
    assert gpu["readings"]["utilization"] == "N/A: Not Supported"


@pytest.mark.parametrize(
    ("mode", "asked", "why"),
    [
        ("mig", "MIG-5a6b", "no instance of a GPU is called MIG-5a6b, as CUDA_VISIBLE_DEVICES has it"),  # both are
        ("mig", "MIG-other", "no instance of a GPU is called MIG-other, as CUDA_VISIBLE_DEVICES has it"),
        ("two_gpus", "MIG-5a6b0000-0001", "no instance of a GPU is called MIG-5a6b0000-0001, as CUDA_VISIBLE_DEVICES"),
        ("mig_empty", "1", "MIG divides the GPU, and it has no instance that this process may use"),
        ("mig_both_empty", None, "MIG divides the GPU, and it has no instance that this process may use"),
    ],
)
def test_without_the_instance_that_is_meant_the_reason_is_named(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, mode: str, asked: str | None, why: str
) -> None:
    driver(mode)
    if asked is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    assert gpu_count() == 0
    assert gpus.fault().startswith(why)


@pytest.mark.parametrize(("mode", "asked"), [("mig", "0"), ("mig_empty", None)])
def test_a_whole_gpu_is_used_next_to_a_divided_one(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, mode: str, asked: str | None
) -> None:
    driver(mode)
    if asked is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", asked)
    (one,) = gpus.usable()
    assert (one.index, one.name, one.total) == (0, "NVIDIA GeForce RTX 3060", 12 * 2**30)


def test_a_driver_that_crashes_counts_as_none(driver: Driver, tmp_path: Path) -> None:
    driver("segfault")
    assert gpu_count() == 0
    assert run(*gpus.command("--once"), folder=tmp_path, limit=LIMIT).code == -signal.SIGSEGV


def test_a_driver_that_hangs_counts_as_none(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("hang_init")
    monkeypatch.setattr(gpus, "COUNT_SECONDS", 0.5)
    began = time.monotonic()
    assert gpu_count() == 0
    assert time.monotonic() - began < LIMIT


def test_gpus_are_counted_once(driver: Driver) -> None:
    driver("two_gpus")
    assert gpu_count() == 2
    driver("segfault")
    assert gpu_count() == 2


def test_without_processes_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "command", lambda *_options: ["/nowhere/python"])
    assert gpu_count() == 0


def test_an_unkillable_child_is_not_waited_for(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("hang_init")
    child = subprocess.Popen(gpus.command(), stdout=subprocess.PIPE)
    began = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(child, "kill", lambda: None)  # as it were
        patch.setattr(gpus, "REAP_SECONDS", 0.1)
        gpus._end(child)
    assert time.monotonic() - began < LIMIT
    child.kill()
    child.wait()


@pytest.mark.parametrize("yes", ["true", "True", "t", "y", "1"])  # as accelerate reads it
def test_the_cpu_can_be_requested(driver: Driver, monkeypatch: pytest.MonkeyPatch, yes: str) -> None:
    driver("two_gpus")
    assert not on_cpu(2)
    monkeypatch.setenv("ACCELERATE_USE_CPU", yes)
    assert on_cpu(1)


def test_the_child_ends_when_nobody_reads_it(driver: Driver) -> None:
    driver("hang_later")
    child = subprocess.Popen(gpus.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.stdout
    assert len(json.loads(child.stdout.readline())["gpus"]) == 2
    child.stdout.close()
    until(lambda: child.poll() is not None, LIMIT)


PARENT = """
import subprocess, sys
from engine.contract.machine import gpus
with open(sys.argv[1], "wb") as output:
    print(subprocess.Popen(gpus.command(), stdin=subprocess.DEVNULL, stdout=output).pid, flush=True)
sys.stdin.read()
"""


def test_the_child_ends_with_its_parent(driver: Driver, tmp_path: Path) -> None:
    driver("hang_later")
    output = tmp_path / "lines"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdin
    assert parent.stdout
    pid = int(parent.stdout.readline())
    until(lambda: output.stat().st_size > 0, LIMIT)  # it runs, and says so to a file that stays
    parent.kill()
    parent.wait()
    until(lambda: not lives(pid), LIMIT)
    with contextlib.suppress(ChildProcessError):  # ours now, if another test has made this process a subreaper
        os.waitpid(pid, 0)
    parent.stdin.close()
    parent.stdout.close()


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)  # which its new parent may be slow to reap
    except psutil.NoSuchProcess:
        return False


def test_the_child_loads_nothing_heavy(tmp_path: Path) -> None:
    module = "engine.contract.machine.gpus"
    program = f"import sys, pynvml, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = run(sys.executable, "-c", program, folder=tmp_path, limit=LIMIT).out.split()
    assert {"torch", "numpy", "rich", "click", "textual", "psutil", "sft_tui"}.isdisjoint(loaded)
