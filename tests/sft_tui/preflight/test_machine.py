"""What the machine is asked, with answers made for tests."""

import os
import resource
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine.contract import native_library
from engine.contract.launch import Launch
from engine.contract.machine import other_gpus
from engine.contract.machine.other_gpus import OtherGpu, TorchBuild
from engine.contract.native_library import Fault
from engine.contract.presets import preset
from sft_tui.preflight import machine
from sft_tui.preflight.declaration import CheckedRun, with_remedies
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import Set, Start
from sft_tui.preflight.machine import ELSEWHERE, FILES, MACHINE, Elsewhere, Machine


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process in a session's scope, of a user who is not root, on a machine whose logind kills."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(machine, "BUS_SECONDS", 60.0)
    answer(tmp_path, monkeypatch, "echo b true")
    scope = tmp_path / "cgroup"
    scope.write_text("0::/user.slice/user-1000.slice/session-3.scope\n")
    return scope


def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Puts a `busctl` in front of the path that answers by `script`."""
    tool = folder / "bin" / "busctl"
    tool.parent.mkdir(exist_ok=True)
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")


def test_a_logout_that_ends_the_run_is_foreseen(session: Path) -> None:
    assert machine.logout_kills(session)


@pytest.mark.parametrize("scope", ["0::/user.slice/user-1000.slice/user@1000.service/app.slice\n", "", "0::/\n"])
def test_a_process_outside_any_session_survives_logout(session: Path, scope: str) -> None:
    session.write_text(scope)
    assert not machine.logout_kills(session)


def test_root_survives_logout(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not machine.logout_kills(session)


@pytest.mark.parametrize("script", ["echo b false", "exit 1", "sleep 60", "echo nonsense"])
def test_a_logind_without_kill_setting_is_no_warning(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(machine, "BUS_SECONDS", 0.5)
    answer(tmp_path, monkeypatch, f"exec {script}" if script.startswith("sleep") else script)
    assert not machine.logout_kills(session)


def found(code: str, path: Path) -> list[Finding]:
    config = replace(preset("sft-small").config, train_file=str(path), validation_file=str(path))
    here = Machine.of(config, 1, 16_000_000_000)
    findings = [*MACHINE.findings(here), *FILES.findings(here)]
    run = CheckedRun(config, lambda **changes: Set("sft-small", {}, changes), findings, start=Start("sft-small"))
    return [finding for finding in with_remedies(run) if finding.code == code]


def test_a_logout_warning_names_the_command_that_survives(
    session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session.exists()
    monkeypatch.setattr(machine, "logout_kills", lambda: True)
    (finding,) = found("logout_kills", tmp_path)
    assert finding.command.startswith("loginctl enable-linger && systemd-run --user --scope sft-tui run sft-small")


@pytest.mark.parametrize(("hours", "reported"), [(-48, 0), (0.5, 0), (2, 1)])
def test_a_file_from_the_future_says_that_the_clock_is_off(tmp_path: Path, hours: float, reported: int) -> None:
    path = tmp_path / "rows.parquet"
    path.touch()
    os.utime(path, (time.time(), time.time() + 3600 * hours))
    assert len(found("clock_off", path)) == reported


def test_little_shared_memory_is_reported_for_several_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = os.statvfs(tmp_path)
    monkeypatch.setattr(machine, "LEAST_SHM", small.f_bavail * small.f_frsize * 2)
    monkeypatch.setattr(os, "statvfs", lambda _path: small)
    two = Machine(preset("sft-small").config, processes=2, memory=1, gpus=2, cores=2)
    levels = {
        count: [each.level for each in MACHINE.findings(replace(two, gpus=count)) if each.code == "shm_small"]
        for count in (0, 2)
    }
    assert levels == {0: [], 2: ["warning"]}


@pytest.mark.parametrize(
    ("code", "said"), [("missing", "was not compiled"), ("stale", "another version of its source")]
)
@pytest.mark.parametrize("checkout", [True, False])
def test_unusable_compiled_code_is_reported_with_a_fix(
    code: str, said: str, checkout: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_library, "fault", lambda: Fault(code))
    monkeypatch.setattr(machine, "HERE", str(tmp_path))
    if checkout:
        (tmp_path / "pyproject.toml").touch()
    reported = [*found("uncompiled", tmp_path), *found("uncompiled_wheel", tmp_path)]
    assert [said in finding.what() for finding in reported] == [True]
    assert (f"-m pip install -e {tmp_path}" in reported[0].fix()) == checkout
    assert ("wheel" in reported[0].fix()) != checkout


def test_unloadable_compiled_code_is_reported_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    why = "libgomp.so.1: cannot open shared object file: No such file or directory"
    monkeypatch.setattr(native_library, "fault", lambda: Fault("unloadable", why))
    (finding,) = found("unloadable", tmp_path)
    assert why in finding.what()
    assert "libgomp1" in finding.fix()


def test_usable_compiled_code_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_library, "fault", lambda: None)
    assert not [code for code in ("uncompiled", "uncompiled_wheel", "unloadable") if found(code, tmp_path)]


def test_a_low_limit_of_open_files_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (64, 4096))
    (finding,) = found("files_few", tmp_path)
    assert "64" in finding.what()


def test_processes_can_reach_each_other_on_this_machine() -> None:
    assert machine.unreachable() == ""


def test_a_machine_without_ports_is_an_error_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_address: tuple[str, int]) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr("socket.create_server", refuse)
    config = preset("sft-small").config
    codes = {
        processes: [each.code for each in MACHINE.findings(Machine.of(config, processes, 1)) if each.level == "error"]
        for processes in (1, 2)
    }
    assert codes == {1: [], 2: ["ports_closed"]}


def unseen(usable: bool, gpus: int = 0) -> set[str]:
    """The codes of what is found on a machine with a GPU of AMD."""
    cards = (OtherGpu("AMD", "0000:03:00.0", usable),)
    one = Machine(preset("sft-small").config, processes=1, memory=1, gpus=gpus, cores=2, unused=cards)
    return {each.code for each in MACHINE.findings(one)} & {"gpu_unseen", "gpu_unread"}


def test_a_gpu_of_amd_is_said_to_be_unseen_not_absent() -> None:
    assert unseen(usable=False) == {"gpu_unseen"}
    assert unseen(usable=True) == {"gpu_unread"}  # with a torch that is made for it
    assert unseen(usable=False, gpus=1) == set()  # the run has a better one


def test_what_to_do_with_an_unseen_gpu_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(other_gpus, "found", lambda: [OtherGpu("AMD", "0000:03:00.0", usable=False)])
    (finding,) = found("gpu_unseen", tmp_path)
    assert finding.level == "warning"
    assert "A GPU of AMD is in this machine" in finding.what()
    assert "ROCm" in finding.fix()
    assert "AMD" in finding.what("zh")


@pytest.mark.parametrize(("backends", "found"), [(set(), True), ({"cuda"}, False), ({"hip"}, False)])
def test_a_torch_for_the_cpu_is_a_warning_before_gpus_elsewhere(
    monkeypatch: pytest.MonkeyPatch, backends: set[str], found: bool
) -> None:
    monkeypatch.setattr(other_gpus, "torch_build", lambda: TorchBuild("2.13.0", frozenset(backends)))
    away = list(ELSEWHERE.findings(Elsewhere(Launch("slurm", gpus=2))))
    assert [each.level for each in away if each.code == "torch_without_gpus"] == ["warning"] * found
    assert not [each for each in ELSEWHERE.findings(Elsewhere(Launch("slurm"))) if each.level != "ok"]
