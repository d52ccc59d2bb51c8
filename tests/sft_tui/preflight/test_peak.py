"""What a check says of GPUs, over a driver library made for tests: two of 12 GB, of which 6 and 5 are free."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.contract.launch import Launch
from engine.contract.machine import gpus, other_gpus
from engine.contract.machine.gpus import UsableGpu
from engine.contract.machine.other_gpus import TorchBuild
from engine.contract.memory import MemoryPrediction
from sft_tui.preflight import peak
from sft_tui.preflight import report as reports
from sft_tui.preflight.check import Report
from sft_tui.preflight.peak import GpuPeak
from tests import nvml
from tests.conftest import ROWS
from tests.processes import SFT_TUI, options, run
from tests.sft_tui.preflight.broken_files import Files
from tests.sft_tui.preflight.conftest import Checked

Driver = Callable[[str], None]
GB = 10**9


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def driver(files: Files, library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """A driver that acts in the way named, over sound files, and the CPU not asked for."""
    assert files
    monkeypatch.setattr(gpus, "COUNT_SECONDS", 40.0)
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    monkeypatch.setattr(other_gpus, "torch_build", lambda: TorchBuild("2.13.0+cu130", frozenset({"cuda"})))

    def act(mode: str) -> None:
        nvml.use(monkeypatch, library, mode)
        gpus.found.cache_clear()

    yield act
    gpus.found.cache_clear()


def about(report: Report, subject: str) -> dict[str, tuple[str, str]]:
    return {f.code: (f.level, f.what()) for f in report.findings if f.subject == subject}


def free(monkeypatch: pytest.MonkeyPatch, *sizes: int | None) -> None:
    """Has the driver say what is free on each GPU."""
    cards = [UsableGpu(index, "card", 12 * 2**30, size, bf16=True) for index, size in enumerate(sizes)]
    monkeypatch.setattr(gpus, "usable", lambda: cards)


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


def test_visible_gpus_are_named_as_the_driver_numbers_them(
    checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rank on CUDA's first GPU is on the driver's second one."""
    driver("")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    ((_, says),) = of_gpus(checked(num_processes=1))
    assert "GPU 1" in says
    assert "5.37 GB free" in says


def test_hidden_gpus_leave_the_cpu(checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    report = checked(num_processes=1)
    assert of_gpus(report) == []
    assert "CPU" in about(report, "machine")["machine"][1]


def test_a_run_on_gpus_of_other_machines_is_not_compared_with_this_one(checked: Checked) -> None:
    """This one has no GPU and little memory, as one where people log in."""
    launch = Launch("torchrun", nodes=2, gpus=4)
    report = checked(memory_limit=1_000_000, launch=launch, mixed_precision="auto")
    assert report.exit_code == 0, [finding.what() for finding in report.findings if finding.level == "error"]
    memory = about(report, "memory")
    assert set(memory) == {"memory_needed", "gpu_memory_needed"}
    assert "context 600.00 MB" in memory["gpu_memory_needed"][1]
    assert "Each machine needs" in memory["memory_needed"][1]
    assert "2 machines with 4 processes each on 4 GPUs" in about(report, "machine")["machine_elsewhere"][1]
    assert report.gpu_prediction is not None
    assert report.prediction is not None
    shown = list(reports.lines(report.findings, "en"))
    assert any("Ampere" in line for line in shown)


@pytest.mark.parametrize("launch", [Launch("slurm", gpus=0), Launch("slurm", nodes=2, gpus=2)])
def test_a_machine_where_slurm_is_asked_is_not_compared(checked: Checked, driver: Driver, launch: Launch) -> None:
    driver("")
    report = checked(memory_limit=1_000_000, launch=launch)
    assert report.exit_code == 0
    assert not {"memory_short", "gpu_memory", "processes_over_gpus"} & {f.code for f in report.findings}


def test_processes_for_the_cpu_need_no_gpu_that_is_here(checked: Checked, driver: Driver) -> None:
    driver("")
    report = checked(launch=Launch("torchrun", nodes=2, gpus=0))
    assert of_gpus(report) == []
    assert report.gpu_prediction is None
    assert "CPU" in about(report, "machine")["machine"][1]


def test_gpus_that_are_here_are_compared_for_a_launcher_too(checked: Checked, driver: Driver) -> None:
    driver("")
    assert len(of_gpus(checked(launch=Launch("torchrun", nodes=2, gpus=2)))) == 2
    over = checked(launch=Launch("torchrun", gpus=1))
    assert [level for level, _ in of_gpus(over)] == ["ok"]


def test_of_two_unlike_gpus_the_smaller_one_decides(checked: Checked, driver: Driver) -> None:
    driver("unlike")
    report = checked()
    (finding,) = [f for f in report.findings if f.code == "gpus_unlike"]
    assert finding.level == "warning"
    assert "GPU 1 (NVIDIA GeForce RTX 3070) 8.59 GB" in finding.what()
    assert "GPU 1 decides" in finding.why()
    assert finding.command.startswith("env CUDA_VISIBLE_DEVICES=0 sft-tui run sft-small")
    assert [level for level, _ in of_gpus(report)] == ["ok", "ok"]  # each by its own memory
    assert not [f for f in checked(num_processes=1).findings if f.code == "gpus_unlike"]


def test_two_alike_gpus_are_no_finding(checked: Checked, driver: Driver) -> None:
    driver("")
    assert not {"gpus_unlike", "gpus_reordered", "torch_without_cuda"} & {f.code for f in checked().findings}


def test_an_order_of_gpus_that_the_driver_does_not_know_is_a_warning(
    checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("unlike")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert about(checked(), "machine")["gpus_reordered"][0] == "warning"


@pytest.mark.parametrize(("processes", "level"), [(1, "warning"), (2, "error")])
def test_a_torch_without_cuda_is_reported_next_to_gpus(
    checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch, processes: int, level: str
) -> None:
    driver("")
    monkeypatch.setattr(other_gpus, "torch_build", lambda: TorchBuild("2.13.0+cpu"))
    found, what = about(checked(num_processes=processes), "machine")["torch_without_cuda"]
    assert (found, "2.13.0+cpu" in what) == (level, True)


def test_one_process_takes_the_first_gpu(checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    driver("")
    free(monkeypatch, 600_000_000, 9_000_000_000)
    ((level, says),) = of_gpus(checked(num_processes=1))
    assert level == "warning"
    assert "600.00 MB are free" in says


@pytest.mark.parametrize(
    ("free", "codes"), [(11, {"gpu_memory"}), (7, {"gpu_memory_unsure"}), (5, {"gpu_memory_short"})]
)
def test_what_depends_on_the_gpus_libraries_is_a_warning(free: int, codes: set[str]) -> None:
    """6 GB are predicted, or up to 8 if PyTorch takes its plain kernel."""
    needed = MemoryPrediction({"weights": GB, "activations": 5 * GB}, "training", unsure=2 * GB)
    findings = list(peak.GPU.findings(GpuPeak(1, needed, free * GB)))
    assert {finding.code for finding in findings} == codes
    assert [finding.level for finding in findings] == ["ok" if free == 11 else "warning"]
    assert ("up to 8.00 GB" in findings[0].what()) == (free == 7)


def test_an_old_gpu_has_the_run_predicted_in_fp32(checked: Checked, driver: Driver) -> None:
    """One of two GPUs has no bf16, so none computes in it."""
    driver("old_card")
    old = checked(mixed_precision="bf16")
    assert {f.code for f in old.findings} >= {"precision_fallback"}
    driver("")
    new = checked(mixed_precision="bf16")
    assert "precision_fallback" not in {f.code for f in new.findings}
    sizes = [reports.to_json(report, "en")["gpu_memory"]["items"]["activations"] for report in (old, new)]
    assert sizes[0] > sizes[1]


def test_a_gpu_without_readings_needs_a_rehearsal(
    checked: Checked, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("")
    free(monkeypatch, 9_000_000_000, None)
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
    free(monkeypatch, 600_000_000, 600_000_000)
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


MODELS = {
    "tiny": {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_decoder_layers": 4, "num_heads": 4},
    "chatlm": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 10, "num_decoder_layers": 10, "num_heads": 12},
}


VOCABULARY = {"tiny": 16_000, "chatlm": 29_298}


def tokenizer_of(folder: Path, size: int) -> str:
    """A tokenizer with this many tokens, one of them for each character of the rows."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = sorted({character for row in ROWS for text in row for character in text})
    words = ["[PAD]", "[EOS]", "[UNK]", *characters]
    words += [f"<{number}>" for number in range(size - len(words))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    special = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("size", MODELS)
def test_the_prediction_is_within_15_percent_of_what_the_run_shows(tmp_path: Path, size: str, processes: int) -> None:
    pairs = [
        (one[0] + other[0], (one[1] + other[1]) * (1 + place % 9)) for place, one in enumerate(ROWS) for other in ROWS
    ]
    for name, rows in (("train", pairs[:64]), ("valid", pairs[64:72])):
        pq.write_table(
            pa.table({"prompt": [p for p, _ in rows], "response": [r for _, r in rows]}), tmp_path / f"{name}.parquet"
        )
    settings: dict[str, Any] = {
        "train_file": "train.parquet", "validation_file": "valid.parquet", "pretrained_model": "", **MODELS[size],
        "tokenizer": tokenizer_of(tmp_path / "tokenizer", VOCABULARY[size]), "epochs": 1, "num_processes": processes,
    }  # fmt: skip
    checked = run(*SFT_TUI, "check", "sft-small", "--json", *options(settings), folder=tmp_path)
    predicted = json.loads(checked.out)["memory"]["total"]
    cpu = {"ACCELERATE_USE_CPU": "true"}
    ended = run(*SFT_TUI, "run", "sft-small", "--no-ui", *options(settings), folder=tmp_path, env=cpu, limit=900)
    assert ended.code == 0, ended.err
    (line,) = [line for line in ended.err.splitlines() if line.startswith("Peak memory of the trainer")]
    peaks = [float(number) * {"GB": 1e9, "MB": 1e6}[unit] for number, unit in re.findall(r"([\d.]+) (GB|MB)", line)]
    assert len(peaks) == processes
    assert all(abs(predicted / peak - 1) < 0.15 for peak in peaks), (predicted, peaks)
