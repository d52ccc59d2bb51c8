"""The app on a real pseudo-terminal: it is left clean however it ends, and nothing foreign reaches it raw."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from engine.contract import events
from engine.contract.durable import write_json
from engine.contract.locks import FolderLock
from engine.contract.messages import Message
from engine.contract.outputdir import OutputDir
from engine.contract.presets import preset
from sft_tui.screen.run_screen import notification
from tests.processes import run, until
from tests.required import required
from tests.sft_tui.conftest import EVAL, PLAN, STARTED, step
from tests.sft_tui.screen.conftest import write_run
from tests.terminal import PROGRAM, Terminal, terminal


def test_the_app_opens_on_what_is_here_and_q_leaves(tmp_path: Path) -> None:
    with terminal(tmp_path) as app:
        app.sees("Nothing here yet", "1 Start the demo")
        app.press("q")
        assert app.wait() == 0
        app.left_clean()


def test_attach_opens_the_run(logs: Path) -> None:
    with terminal(logs.parent, "attach", "sft-small-1") as app:
        app.sees("sft-small-1", "Loss", "Samples")
        app.press("?")
        app.sees("without saving")
        app.press("\x1bq")


def test_leaving_names_what_keeps_running(logs: Path) -> None:
    lock = FolderLock.acquire(logs / "sft-small-1", "sft-small-1", logs / "sft-small-1")
    try:
        with terminal(logs.parent, "attach", "sft-small-1") as app:
            app.sees("sft-small-1", "leave it running")
            app.press("q")
            app.wait()
            assert b"sft-small-1 keeps running (step 59/100" in app.raw
            assert b"sft-tui attach sft-small-1" in app.raw
            assert app.raw.rindex(b"\x1b[23;2t") < app.raw.index(b"keeps running")
    finally:
        lock.release()


def framed(app: Terminal) -> bool:
    """Whether the screen has frames, and each its right edge in one column."""
    rows = [app.row(number) for number in range(app.screen.lines)]
    corners = [(y, x) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell == "┐"]
    edges = ["".join(row[x] for row in rows[y + 1 :]).partition("┘") for y, x in corners]
    return bool(edges) and all(end and set(edge) == {"│"} for edge, end, _ in edges)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_wide_characters_stay_within_their_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    texts = ["肝穿刺活检是否有危险？" * 8, "ＡＢＣ「全角」ｶﾅ 한국어 e\u0301 " * 6, "中文与 English 混排，🀄 一二三" * 5]
    reported = (events.Sample(1, 50, number, text, text, text) for number, text in enumerate(texts))
    ended = events.RunEnded("finished", 0, Message("unknown", {}, "。" * 200))
    write_run(tmp_path / "logs", "sft-small-1", STARTED, PLAN, *(step(n) for n in range(1, 60)), EVAL, *reported, ended)
    with terminal(tmp_path, "attach", "sft-small-1", "--lang", "zh", size=size) as app:
        app.sees("损失", "日志")
        app.until(lambda: framed(app))
        app.press("4")  # the samples alone
        app.press("\x1b[F")  # to the last sample
        app.sees("🀄 一二三")
        app.until(lambda: framed(app))


def test_a_running_demo_is_shown_and_not_started_again(tmp_path: Path) -> None:
    run_dir = write_run(tmp_path / "logs", "demo-t5-pretrain-7", STARTED, PLAN, *(step(n) for n in range(1, 20)))
    output = tmp_path / preset("demo-t5-pretrain").config.output_dir
    output.mkdir(parents=True)
    lock = FolderLock.acquire(output, "demo-t5-pretrain-7", run_dir.path)
    try:
        with terminal(tmp_path, "demo", "--t5") as app:
            app.sees("demo-t5-pretrain-7", "Loss")
            app.press("q")
            assert app.wait() == 0
    finally:
        lock.release()
    assert [path.name for path in (tmp_path / "logs").iterdir() if path.is_dir()] == ["demo-t5-pretrain-7"]


def test_the_screen_of_a_done_demo_leaves_how_to_talk_to_its_model(tmp_path: Path) -> None:
    ended = events.RunEnded("finished", 0, Message("unknown", {}, "."))
    run_dir = write_run(tmp_path / "logs", "demo-1", STARTED, PLAN, step(1), EVAL, ended)
    output = OutputDir(tmp_path / preset("demo").config.output_dir)
    output.path.mkdir(parents=True)
    write_json(output.owner_file, {"run": "demo-1", "run_dir": str(run_dir.path), "finished": True})
    with terminal(tmp_path, "demo") as app:
        app.sees("The demo is done")
        app.press("q")
        assert app.wait() == 0
        app.left_clean()
        assert app.text.count("sft-tui reply --model model_save/demo/chat/best 'Who are you?'") == 1


SLEEPING = """
import sys
from sft_tui.screen import background
sleep = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
background.PROGRAM = [sys.executable, "-c", sleep]
from sft_tui.cli.main import main
main()
"""


def test_a_background_command_does_not_delay_the_exit(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "1", "response": "2"}\n')
    with terminal(tmp_path, program=[sys.executable, "-c", SLEEPING]) as app:
        app.sees("1 Import mine.jsonl")
        app.press("n")
        app.sees("data import mine.jsonl")
        app.press("f")
        app.sees("Import mine.jsonl into")
        app.press("1")
        until(lambda: (tmp_path / "pid").is_file() and bool((tmp_path / "pid").read_text()))
        process = psutil.Process(int((tmp_path / "pid").read_text()))
        app.press("q")
        assert app.wait() == 0  # the command would last ten minutes
        app.left_clean()
    process.wait(60)


def test_the_app_can_be_suspended_and_continued(logs: Path) -> None:
    job = f"set -m; {shlex.join(PROGRAM)} attach sft-small-1; echo IN THE SHELL; read _; fg"
    with terminal(logs.parent, program=["/bin/sh", "-c", job]) as app:
        app.sees("Loss")
        app.press("\x1a")
        app.sees("IN THE SHELL")
        app.left_clean()
        assert "Loss" not in app.text
        app.press("\r")
        app.sees("Loss")
        app.press("\x11")
        assert app.wait() == 0


def test_every_action_of_the_run_can_be_pressed_without_harm(logs: Path) -> None:
    with terminal(logs.parent, "attach", "sft-small-1") as app:
        app.sees("Loss")
        for keys in ("m", "g", "+", "+", "-", "\x1b[D", "\x1b[C", "t", "v", "\t", "\t", "\t", "\t", "\t", "\x1b[A",
                     "\x1b[5~", "\x1b[6~", "/loss\r", "y", "s", "p", "X", "f", "\x14", "\x14", "\x14"):  # fmt: skip
            app.press(keys)
            app.settle(0.05)
        for size in ((40, 10), (60, 20), (300, 80), (80, 24)):
            app.resize(*size)
            app.settle(0.1)
        assert not app.ended()
        app.press("q")
        assert app.wait() == 0
        app.left_clean()


def test_an_action_is_found_by_its_name_in_the_language_of_the_screen(logs: Path) -> None:
    with terminal(logs.parent, "attach", "sft-small-1", "--lang", "zh") as app:
        app.sees("sft-small-1")
        app.press("\x10")
        app.sees("查找：")
        app.press("列出")
        app.press("\r")
        app.sees("结束原因")
        app.press("q")
        assert app.wait() == 0


def test_a_notification_passes_through_tmux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    assert notification("demo-1: done") == "\x1b]9;sft-tui · demo-1: done\x1b\\"
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")
    # An escape inside a sequence for tmux is doubled; where allow-passthrough is off, tmux drops all of it.
    assert notification("demo-1: done") == "\x1bPtmux;\x1b\x1b]9;sft-tui · demo-1: done\x1b\x1b\\\x1b\\"


def test_a_terminal_that_is_too_small_is_reported(logs: Path) -> None:
    with terminal(logs.parent, "attach", "sft-small-1", size=(40, 10)) as app:
        app.sees("too small", "least")
        app.resize(80, 24)
        app.sees("Loss")
        app.press("q")


PATIENT = """
from sft_tui.screen import terminal
terminal.LATEST_SECONDS = 60.0  # on a busy machine an end in order takes more than a moment
from sft_tui.cli.main import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("arguments", [(), ("attach", "sft-small-1")])
def test_a_signal_ends_the_app_at_once(logs: Path, number: int, arguments: tuple[str, ...]) -> None:
    with terminal(logs.parent, *arguments, program=[sys.executable, "-c", PATIENT]) as app:
        app.sees("sft-small")
        app.settle(0.5)
        os.kill(app.pid, number)
        app.wait(50.0)
        assert app.code in (128 + number, -number)
        if number == signal.SIGTERM:
            app.left_clean()


STUCK = """
import time
from sft_tui.screen import app, terminal
terminal.LATEST_SECONDS = 0.5
app.SftTuiApp.exit = lambda *_: time.sleep(600)
from sft_tui.cli.main import main
main()
"""


def test_an_app_that_does_not_end_gives_its_terminal_back(logs: Path) -> None:
    with terminal(logs.parent, "attach", "sft-small-1", program=[sys.executable, "-c", STUCK]) as app:
        app.sees("Loss")
        os.kill(app.pid, signal.SIGTERM)
        assert app.wait() == 128 + signal.SIGTERM
        app.left_clean()
        assert app.raw.rindex(b"\x1b[23;2t") > app.raw.rindex(b"\x1b[?1049l")


def test_closing_the_terminal_ends_the_app(logs: Path) -> None:
    with terminal(logs.parent, "attach", "sft-small-1") as app:
        app.sees("Loss")
        app.hang_up()
        until(app.ended, 60)


def test_without_a_terminal_the_app_says_what_to_use_instead(tmp_path: Path) -> None:
    result = run(*PROGRAM, folder=tmp_path)
    assert result.code == 2
    assert "--no-ui" in result.err


def test_a_crash_ends_in_one_line_and_a_file_without_values(logs: Path) -> None:
    secret = "a-value-that-nobody-needs"
    code = (
        "import sft_tui.screen.run_view as view\n"
        f"def broken(*_): secret = '{secret[:8]}' + '{secret[8:]}'; raise RuntimeError('broken on purpose')\n"
        "view.draw = broken\n"
        "import sys; sys.argv = ['sft-tui', 'attach', 'sft-small-1']\n"
        "from sft_tui.cli.main import main; main()\n"
    )
    (logs.parent / "broken.py").write_text(code)
    root = str(Path(__file__).parents[3])
    with terminal(logs.parent, program=[sys.executable, "broken.py"], PYTHONPATH=root) as app:
        assert app.wait() == 1
        app.left_clean()
        assert "crash-" in app.text
    (file,) = logs.glob("crash-*.txt")
    trace = file.read_text()
    assert "broken on purpose" in trace
    assert secret not in trace + app.raw.decode(errors="replace")


def payloads() -> Iterator[str]:
    """What a terminal would obey: titles, clipboard, colours, modes, strings of every kind, and what hides text."""
    token = "PWNED"
    bodies = [
        "]0;{}", "]2;{}", "]1;{}", "]52;c;UFdORUQ=", "]8;;http://{}", "]9;{}", "]777;notify;{};x", "]1337;{}",
        "]4;1;{}", "]10;{}", "P1$r{}", "Pq{}", "_{}", "^{}", "X{}",
        "k{}", "[31m{}", "[2J{}", "[H{}", "[6n{}", "[c{}", "[?25l{}",
        "[?1049l{}", "[?1000h{}", "[?2004h{}", "[21t{}", "[5i{}", "[!p{}", "c{}", "(0{}", "#8{}", "7{}", "8{}", "D{}",
        "M{}", "={}", ">{}", "[200~{}", "[s{}", "[u{}",
    ]  # fmt: skip
    for body in bodies:
        yield "\x1b" + body.format(token) + "\x07"
    for c1 in ("\x9b31m", "\x9d0;", "\x90q", "\x9f", "\x9e", "\x98", "\x84", "\x8d"):
        yield c1 + token + "\x9c"
    yield from (f"{char}{token}" for char in ("\r", "\n", "\b\b\b", "\x07", "\x00", "\x0e", "\x7f", "\u202e", "\u2066"))
    yield from ("[/x]PWNED", "[bold]PWNED", "[@click=app.exit]PWNED[/]", "\ud800PWNED", "\x1b\x1b[31mPWNED")


PAYLOADS = list(payloads())
# What the app itself sends: styles, cursor, modes, its own queries, and strings of none of the payloads.
OWN = re.compile(
    rb"\x1b\[[0-9;:]*[mHABCDGJK]|\x1b\[\?[0-9;]+[hlu$p]+|\x1b\[[<>=?]?[0-9;]*[cunqtpS]|\x1b\[[0-9]* q|"
    rb"\x1b\]22;[a-z]+\x07|\x1b\]2;[^\x1b\x07]*\x1b\\|\x1b\[\?[0-9;]*\$p|\x1bP\+q[0-9a-fA-F;]*\x1b\\|\x1b\[[<>=][0-9;]*u|\x1b[()][B0]|\x1b_G[^\x1b]*\x1b\\"
)


def test_there_are_many_hostile_texts() -> None:
    assert len(PAYLOADS) >= 60


def hostile_run(logs: Path) -> None:
    name = "run\x1b]0;PWNED\x07\u202e[b]名"
    reported: list[events.Event] = [STARTED, PLAN, *(step(n) for n in range(1, 20)), EVAL]
    for number, payload in enumerate(PAYLOADS):
        reported.append(events.Sample(1, 50, number, payload, payload, payload))
        reported.append(events.Notice(Message("unknown_code", {}, payload)))
        reported.append(events.Warning(Message("checkpoint_skipped", {"checkpoint": payload, "why": payload})))
        reported.append(events.Gpu(number % 4, payload, {"utilization": payload, "memory_used": payload}))
        reported.append(events.Phase(payload, 1, 2))
    reported.append(events.RankFailed(PAYLOADS[0], PAYLOADS[1], 3, PAYLOADS[2], PAYLOADS[3], False))
    end = events.RunEnded("x\x1b[31m", 1, Message("nobody_knows", {}, PAYLOADS[0]), {p[:9]: p for p in PAYLOADS[:9]})
    write_run(logs, name, *reported, end)


def harmless(raw: bytes) -> None:
    text = raw.decode("utf-8", "replace")
    rest = OWN.sub(b"", raw)
    strange = [rest[match.start() : match.start() + 30] for match in re.finditer(rb"\x1b", rest)]
    assert not strange
    assert not re.search("[\x80-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert b"\x07" not in rest


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_no_foreign_escape_reaches_the_terminal(tmp_path: Path, lang: str) -> None:
    hostile_run(tmp_path / "logs")
    with terminal(tmp_path, "--lang", lang) as app:
        app.sees("PWNED")
        app.press("l")
        app.sees("名")
        app.press("\r")
        app.sees("PWNED")
        for _ in range(6):
            app.press("\t")
            app.settle(0.3)
        app.press("\x1b")
        app.press("d")
        app.settle(0.5)
        app.press("n")
        app.press("q")
        app.settle(0.5)
        app.press("q")
        app.wait()
        harmless(app.raw)
        assert app.screen.answers == []
        assert app.screen.title in ("", "sft-tui")


def test_tmux_title_and_clipboard_stay(tmp_path: Path) -> None:
    required(shutil.which("tmux"), "tmux")
    hostile_run(tmp_path / "logs")
    socket = f"sft-tui-test-{os.getpid()}"

    def tmux(*words: str) -> str:
        done = subprocess.run(["tmux", "-L", socket, *words], capture_output=True, text=True, check=False, timeout=90)
        return done.stdout

    command = f"cd {tmp_path} && env LC_ALL=C.UTF-8 {PROGRAM[0]} -m sft_tui attach"
    try:
        tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", "sh")
        tmux("select-pane", "-T", "mine")
        tmux("set-buffer", "mine")
        tmux("send-keys", command, "Enter")
        until(lambda: "PWNED" in tmux("capture-pane", "-p"))
        for _ in range(6):
            tmux("send-keys", "Tab")
            until(lambda: bool(tmux("capture-pane", "-p").strip()))
        until(lambda: tmux("display-message", "-p", "#{pane_title}").startswith("sft-tui"))
        assert tmux("show-buffer").strip() == "mine"
        tmux("send-keys", "q")
        until(lambda: "PWNED" not in tmux("capture-pane", "-p"))
        until(lambda: tmux("display-message", "-p", "#{pane_title}").strip() == "mine")
    finally:
        tmux("kill-server")
