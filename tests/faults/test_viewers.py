"""Whatever happens to a viewer, the run continues: killed, its terminal closed, stopped while much is logged."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.faults.runs_with_faults import ROOT, Runs
from tests.faults.scenarios import ScenarioTable
from tests.processes import LIMIT, SFT_TUI, end_runs, options, until
from tests.required import required
from tests.terminal import Terminal, terminal

LONG: dict[str, Any] = {"epochs": 2000, "save_steps": 100_000, "bleu_rows": 1, "sample_rows": 0}
ENV = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(ROOT)}
LOGGED = 100 << 20  # bytes that come while a viewer is stopped


@pytest.fixture
def one(tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """A folder for one run."""
    yield Runs(tmp_path, tiny_settings, monkeypatch)
    end_runs(tmp_path)


def command(one: Runs, **settings: Any) -> list[str]:
    """The command that starts it."""
    values = {**one.settings, **LONG, "output_dir": str(one.output.path), **settings}
    return [*SFT_TUI, "run", "sft-small", "--no-ui", *options(values)]


def goes_on(one: Runs) -> bool:
    """Whether the run does further steps, and ends in order when it is asked to."""
    until(one.trains(1, max(one.steps(), default=0) + 3), LIMIT)
    one.run_dir.request_stop()
    until(lambda: not one.look().alive, LIMIT)
    end = one.look().state.ended
    return end is not None and (end.reason, end.exit_code) == ("stopped", 0)


def signalled(number: int) -> Callable[[Terminal], None]:
    """Signals the viewer and waits for its end."""

    def end(viewer: Terminal) -> None:
        os.kill(viewer.pid, number)
        viewer.wait(LIMIT)

    return end


def hung_up(viewer: Terminal) -> None:
    """Closes the terminal under the viewer."""
    viewer.hang_up()
    until(viewer.ended, LIMIT)


ENDS = {
    "kill -9": signalled(signal.SIGKILL),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGHUP": signalled(signal.SIGHUP),
    "a closed terminal": hung_up,
}


MOSTLY = ("kill -9", "a closed terminal")  # the others in `make test-all`


@pytest.mark.parametrize("way", [way if way in MOSTLY else pytest.param(way, marks=pytest.mark.slow) for way in ENDS])
def test_a_run_outlives_its_viewers(one: Runs, table: ScenarioTable, way: str) -> None:
    with terminal(one.folder, program=command(one), PYTHONPATH=str(ROOT)) as viewer:
        viewer.until(one.trains(1, 2), LIMIT)
        ENDS[way](viewer)
    sound = goes_on(one)
    table.add("a viewer is killed, hung up, or loses its terminal", 1, not sound)
    assert sound


def test_ctrl_c_without_a_terminal_leaves_the_run_running(one: Runs, table: ScenarioTable) -> None:
    with (one.folder / "notes").open("wb") as notes:
        viewer = subprocess.Popen(
            command(one), cwd=one.folder, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=notes
        )
        until(one.trains(1, 2), LIMIT)
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(LIMIT) == 0
    assert "sft-small-1 keeps running" in (one.folder / "notes").read_text()
    sound = goes_on(one)
    table.add("Ctrl-C in a viewer", 1, not sound)
    assert sound


def test_tmux_kill_session_leaves_the_run_running(one: Runs, table: ScenarioTable) -> None:
    tmux = required(shutil.which("tmux"), "tmux")
    socket = str(one.folder / "tmux")
    line = " ".join(f"'{word}'" for word in command(one))
    call = [tmux, "-S", socket, "-f", "/dev/null"]
    subprocess.run([*call, "new-session", "-d", "-s", "one", "-c", str(one.folder), line], env=ENV, check=True)
    try:
        until(one.trains(1, 2), LIMIT)
        subprocess.run([*call, "kill-session", "-t", "one"], check=True)
    finally:
        subprocess.run([*call, "kill-server"], check=False, stderr=subprocess.DEVNULL)
    sound = goes_on(one)
    table.add("tmux kill-session", 1, not sound)
    assert sound


def test_a_viewer_stopped_for_100_mb_of_log_catches_up(one: Runs, table: ScenarioTable) -> None:
    started = one.start(**LONG)
    until(one.trains(1, 2), LIMIT)
    with (one.folder / "shown").open("wb") as shown:
        viewer = subprocess.Popen(
            [*SFT_TUI, "attach", "--json", "--logs", str(one.folder / "logs")],
            cwd=one.folder,
            env=ENV,
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: (one.folder / "shown").stat().st_size > 0, LIMIT)
        viewer.send_signal(signal.SIGSTOP)
        until(lambda: psutil.Process(viewer.pid).status() == psutil.STATUS_STOPPED, LIMIT)
        log_much(one.run_dir.events)
        sound = goes_on(one)
        viewer.send_signal(signal.SIGCONT)
        assert viewer.wait(LIMIT) == 0
    table.add("a viewer stopped while 100 MB are logged", 1, not sound)
    assert sound
    assert started.supervisor.wait(LIMIT) == 0
    # A reading of the machine may still come after the end, so the end need not be the last line.
    assert b'"kind":"run_ended"' in (one.folder / "shown").read_bytes()


def log_much(stream: Path) -> None:
    """Appends lines of a kind that nobody knows, as a newer version might."""
    line = b'{"at":"","mono":0.0,"attempt":1,"src":"rank0","seq":1,"kind":"other","text":"%s"}\n' % (b"x" * 60_000)
    fd = os.open(stream, os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(LOGGED // len(line) + 1):
            os.write(fd, line)
    finally:
        os.close(fd)


@pytest.mark.slow
def test_a_detached_stopped_and_resumed_run_has_the_same_curve(
    tmp_path: Path, tiny_settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, table: ScenarioTable
) -> None:
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    settings = {**tiny_settings, "epochs": 20, "save_steps": 50, "bleu_rows": 1}
    whole, cut = (Runs(tmp_path / name, settings, monkeypatch) for name in ("whole", "cut"))
    assert whole.ended(whole.start()).reason == "finished"
    try:
        story(cut, settings)
    finally:
        end_runs(tmp_path)
    same = cut.steps() == whole.steps()
    table.add("detached, attached, stopped, resumed", 1, not same)
    assert same


def story(cut: Runs, settings: dict[str, Any]) -> None:
    """One shell starts it and is killed, another looks at it, stops it, and resumes it."""
    words = " ".join(f"'{word}'" for word in [*SFT_TUI, "run", "sft-small", "--detach", *options(settings)])
    words += f" --output_dir={cut.output.path}"
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f"{words} > name; exec sleep 1000"], cwd=cut.folder, env=ENV, start_new_session=True
    )
    until(cut.trains(1, 3), LIMIT)
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait(LIMIT)
    assert (cut.folder / "name").read_text() == "sft-small-1\n"
    called = [call(cut, *words) for words in (["stop"], ["attach"], ["resume"])]
    assert [result.returncode for result in called] == [0, 0, 0], called
    stopped, attached, resumed = (result.stdout.decode() for result in called)
    assert stopped.startswith("Stopped at step")
    assert attached.startswith("step   1/100")  # from the beginning
    assert attached.splitlines()[-1] == stopped.splitlines()[-1]
    assert resumed.splitlines()[-1].startswith("Finished: 100 steps")
    assert "its loss" in called[2].stderr.decode()  # the proof: that of the step after the checkpoint


def call(one: Runs, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """A command of the app in the folder of the run."""
    return subprocess.run([*SFT_TUI, *words], cwd=one.folder, env=ENV, capture_output=True, timeout=LIMIT, check=False)
