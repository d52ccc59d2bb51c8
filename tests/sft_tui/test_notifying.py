"""Notices to a command and to a server on this machine."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.contract.messages import InputError
from sft_tui import notifying
from sft_tui.notifying import Notice

NOTICE = Notice(
    "ended", "sft-small-1", "finished", "sft-small-1: finished", "Finished: 5 steps; it's $(touch x)", "/logs"
)


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notifying.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def configure(content: str) -> None:
    notifying.config_file().parent.mkdir(parents=True, exist_ok=True)
    notifying.config_file().write_text(content)


class Server:
    """A server that keeps what it gets, and answers with `status`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.status = 204
        self.may_answer = threading.Event()
        self.may_answer.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.may_answer.wait(60)
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_given: object) -> None:
                """Prints nothing."""

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}/hook"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.may_answer.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    found = Server()
    yield found
    found.close()


def test_without_a_setting_nothing_is_sent() -> None:
    assert notifying.target() == ""


def test_only_the_users_file_or_the_environment_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("notify.toml").write_text('notify = "touch owned"')
    Path("presets").mkdir()
    Path("presets/x.toml").write_text('notify = "touch owned"')
    assert notifying.target() == ""
    configure('notify = "notify-send"')
    assert notifying.target() == "notify-send"
    monkeypatch.setenv(notifying.VARIABLE, "")
    assert notifying.target() == ""


def test_a_folder_that_stands_for_a_missing_home_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    configure('notify = "touch owned"')
    assert Path("config/sft-tui/notify.toml").exists()
    assert notifying.target() == ""


@pytest.mark.parametrize("content", ["notify = 3", "notify =", "\xff\xfe"])
def test_a_file_that_says_nothing_usable_is_refused(content: str) -> None:
    configure("")
    notifying.config_file().write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"notify\.toml"):
        notifying.target()


def test_a_command_gets_words_environment_and_json_and_no_shell(tmp_path: Path) -> None:
    program = tmp_path / "keep.py"
    program.write_text(
        "import json, os, sys\n"
        "json.dump([sys.argv[1:], os.environ['SFT_TUI_NOTICE_RUN'], json.load(sys.stdin)], open('kept', 'w'))\n"
    )
    notifying.deliver(f"{sys.executable} '{program}' --urgent", NOTICE)
    words, run, sent = json.loads((tmp_path / "kept").read_text())
    assert words == ["--urgent", NOTICE.title, NOTICE.text]
    assert run == "sft-small-1"
    assert (sent["kind"], sent["status"], sent["text"]) == ("ended", "finished", NOTICE.text)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("command", "said", "seconds"),
    [
        ("no-such-program", "cannot be run", 60),
        ("false", "exit code 1", 60),
        ("sh -c 'sleep 60'", "was ended", 0.3),
        ("'", "cannot be run", 60),
    ],
)
def test_a_command_that_fails_or_hangs_is_said(
    command: str, said: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifying, "SECONDS", seconds)
    with pytest.raises(InputError, match=said):
        notifying.deliver(command, NOTICE)


def test_a_server_gets_json(server: Server) -> None:
    notifying.deliver(server.address, NOTICE)
    (sent,) = server.got
    assert (sent["run"], sent["title"], sent["text"]) == ("sft-small-1", NOTICE.title, NOTICE.text)


@pytest.mark.parametrize("status", [500, 302])
def test_a_server_that_refuses_or_sends_elsewhere_is_said(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(InputError, match=f"status {status}"):
        notifying.deliver(server.address, NOTICE)
    assert len(server.got) == 1


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://127.0.0.1:1/", "http://[::1"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"[Nn]otice"):
        notifying.deliver(address, NOTICE)


@pytest.mark.parametrize(
    "where",
    [
        "http://me:SECRET@127.0.0.1/",
        "http://127.0.0.1/SECRET word",
        "http://[::SECRET",
        "ftp://127.0.0.1/SECRET",
        "http://127.0.0.1:1/SECRET",
        "no-such-program --token SECRET",
        "false SECRET",
        "sh -c 'sleep 60' SECRET",
        "sh 'SECRET",
    ],
)
def test_what_fails_is_said_without_secrets(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(notifying, "SECONDS", 0.3)
    with pytest.raises(InputError) as failed:
        notifying.deliver(where, NOTICE)
    assert "SECRET" not in failed.value.message.text()


def test_a_server_of_another_kind_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"220 mail is welcome\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(InputError, match=r"could not be sent to 127\.0\.0\.1"):
            notifying.deliver(f"http://127.0.0.1:{listener.getsockname()[1]}/", NOTICE)
        thread.join(10)


def test_the_sender_waits_for_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(notifying.VARIABLE, server.address)
    server.may_answer.clear()
    process = notifying.begin(NOTICE)
    assert process is not None
    assert process.poll() is None
    server.may_answer.set()
    assert process.wait(60) == 0
    assert server.got[0]["run"] == "sft-small-1"


def test_what_is_sent_is_harmless() -> None:
    bad = Notice("ended", "r", "failed", "t\x1b[2J", "x" * 5000, "/a\nb").harmless()
    assert "\x1b" not in bad.title
    assert len(bad.text) <= notifying.LONGEST_TEXT
    assert "\n" not in bad.folder
