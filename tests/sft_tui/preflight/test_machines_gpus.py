"""What the pre-flight says of GPUs, over a driver library made for tests: two of 12 GB, of which 6 and 5 are free."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sft_tui.machine import gpus
from sft_tui.preflight import report as reports
from sft_tui.preflight.check import Report
from tests import nvml
from tests.sft_tui.preflight.broken_files import Files
from tests.sft_tui.preflight.conftest import Checked

Driver = Callable[[str], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(files: Files, library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A driver that acts in the way named, over sound files, and the CPU not asked for."""
    assert files
    monkeypatch.setattr(gpus, "COUNT_SECONDS", 40.0)
    monkeypatch.delenv("ACCELERATE_USE_CPU")

    def act(mode: str) -> None:
        nvml.use(monkeypatch, library, mode)
        gpus.found.cache_clear()

    yield act
    gpus.found.cache_clear()


def about(report: Report, subject: str) -> dict[str, tuple[str, str]]:
    return {f.code: (f.level, f.what()) for f in report.findings if f.subject == subject}


def of_gpus(report: Report) -> list[tuple[str, str]]:
    """Level and text of what is said of each GPU's memory."""
    return [(f.level, f.what()) for f in report.findings if f.code.startswith("gpu_memory")]


def test_the_peak_is_compared_with_what_is_free_on_each_gpu(checked: Checked, driver: Driver) -> None:
    driver("")
    report = checked()
    (first, first_says), (second, second_says) = of_gpus(report)
    assert (first, second) == ("ok", "ok")
    assert "GPU 0" in first_says
    assert "6.44 GB free" in first_says
    assert "GPU 1" in second_says
    assert "5.37 GB free" in second_says
    assert "context 600.00 MB" in first_says
    assert about(report, "memory")["memory"][0] == "ok"  # of the host
    body = reports.to_json(report, "en")
    assert body["gpu_memory"]["total"] == sum(body["gpu_memory"]["items"].values())
    assert body["memory"]["host"] == 2 * body["memory"]["total"]


def test_one_process_takes_the_first_gpu(checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("")
    monkeypatch.setattr(gpus, "free_memory", lambda: [600_000_000, 9_000_000_000])
    ((level, says),) = of_gpus(checked(num_processes=1))
    assert level == "warning"
    assert "600.00 MB are free" in says


def test_a_gpu_without_readings_needs_a_rehearsal(
    checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("")
    monkeypatch.setattr(gpus, "free_memory", lambda: [9_000_000_000, None])
    report = checked()
    assert [level for level, _ in of_gpus(report)] == ["warning", "ok"]
    assert report.findings[0].command.startswith("sft-tui rehearse sft-small ")


@pytest.mark.parametrize(
    ("shape", "level"),
    [({"d_model": 3072, "d_ff": 12288, "num_layers": 5, "num_decoder_layers": 5}, "error")],
)
def test_a_model_that_no_gpu_holds_is_an_error(
    checked: Checked, driver: Driver, shape: dict[str, Any], level: str
) -> None:
    driver("")
    report = checked(pretrained_model="", freeze="", **shape)
    assert [found for found, _ in of_gpus(report)] == [level, "warning"]  # what is certain fits the larger one


def test_what_smaller_micro_batches_may_fix_is_a_warning(
    checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("")
    monkeypatch.setattr(gpus, "free_memory", lambda: [600_000_000, 600_000_000])
    report = checked()
    finding, other = [f for f in report.findings if f.code == "gpu_memory_short"]
    assert (finding.level, other.level, report.exit_code) == ("warning", "warning", 0)
    assert "--micro_batch_tokens 64" in finding.command


def test_a_failing_driver_is_reported(checked: Checked, driver: Driver) -> None:
    driver("mismatch")
    level, what = about(checked(), "machine")["gpu_unreadable"]
    assert level == "warning"
    assert "GPU" in what


def test_more_processes_than_gpus_are_refused(checked: Checked, driver: Driver) -> None:
    driver("")
    report = checked(num_processes=3)
    assert about(report, "num_processes")["processes_over_gpus"][0] == "error"


def test_no_driver_is_no_finding(checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("")
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    gpus.found.cache_clear()
    report = checked()
    assert "gpu_unreadable" not in about(report, "machine")
    assert set(about(report, "memory")) == {"memory"}
