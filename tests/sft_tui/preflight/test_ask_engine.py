"""How a reader ended says whose fault it was: only one that crashed or hung speaks against the file."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.contract.config import to_json
from engine.contract.facts import DataFacts
from engine.contract.messages import InputError, Message
from engine.contract.presets import preset
from engine.contract.requests import ModelRequest
from sft_tui.preflight import ask_engine

CONFIG = preset("sft-small").config
SAYS = 'print(\'{"doing": "train_file"}\', flush=True); '
ENDS = {
    # what the child does, its cause, what is said of it
    "a full address space": ("raise ImportError('libarrow.so: failed to map segment from shared object')", "memory"),
    "Python's lack of memory": ("raise MemoryError", "memory"),
    "the kernel's kill": ("import os; os.kill(os.getpid(), 9)", "memory"),
    "an allocation of Rust": (
        "import os, sys; print('memory allocation of 8 bytes failed', file=sys.stderr); os.abort()",
        "memory",
    ),
    "a crash": ("import os; os.abort()", "crash"),
    "an error of ours": ("raise LookupError('the shelf is empty \\x1b[31m')", "failed"),
    "leaving without a word": ("raise SystemExit(0)", "failed"),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Asks a child that does something else than to answer."""

    def ask(code: str) -> Any:
        monkeypatch.setattr(ask_engine, "COMMAND", [sys.executable, "-P", "-c", SAYS + code])
        return ask_engine.ask(ModelRequest(to_json(CONFIG)), DataFacts)

    return ask


@pytest.mark.parametrize("end", ENDS)
def test_the_cause_of_a_readers_end_is_named(asked: Callable[[str], Any], end: str) -> None:
    code, cause = ENDS[end]
    with pytest.raises(ask_engine.InspectorDied) as died:
        asked(code)
    assert died.value.cause == cause
    text = died.value.error(CONFIG, "-").message.text()
    assert CONFIG.train_file in text
    assert ("corrupt or malicious" in text) == (cause == "crash")
    assert "\x1b" not in text


ASKS = """
import signal, sys
from pathlib import Path
from engine.contract.facts import DataFacts
from engine.contract.import_report import ImportReport
from engine.contract.requests import ImportRequest
from sft_tui.preflight import ask_engine
ask_engine.ask(ImportRequest((sys.argv[1],)), ImportReport, lambda *_: print("reading", flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_reader_ends_with_its_parent(tmp_path: Path, number: int) -> None:
    endless = tmp_path / "rows.csv"
    endless.write_text("prompt,response\na,b\n")
    os.truncate(endless, 1 << 40)
    asker = subprocess.Popen([sys.executable, "-P", "-c", ASKS, str(endless)], stdout=subprocess.PIPE)
    assert asker.stdout
    assert asker.stdout.readline() == b"reading\n"
    (reader,) = psutil.Process(asker.pid).children()
    asker.send_signal(number)
    asker.wait()
    asker.stdout.close()
    psutil.wait_procs([reader], timeout=60)
    assert not reader.is_running()


def test_the_last_line_of_an_error_is_shown(asked: Callable[[str], Any]) -> None:
    with pytest.raises(ask_engine.InspectorDied, match="exit code 1: LookupError: the shelf is empty"):
        asked(ENDS["an error of ours"][0])


def test_a_silent_reader_is_named_by_what_was_asked(asked: Callable[[str], Any]) -> None:
    with pytest.raises(ask_engine.InspectorDied) as died:
        asked('print(\'{"doing": ""}\', flush=True); raise SystemExit(3)')
    assert "The process that reads rows.csv failed (exit code 3)" in died.value.error(CONFIG, "rows.csv").message.what()


BROKEN = {
    "no object": "[]",
    "a text for a number": '{"steps": {"rows": "9"}}',
    "a file that is a number": '{"train_file": 3}',
    "a file without its rows": '{"train_file": {"scripts": {}}}',
    "a negative count": '{"overlap": {"rows": -1}}',
    "a number beyond any file": '{"overlap": {"rows": 1' + "0" * 400 + "}}",
    "not a number": '{"train_file": {"rows": NaN}}',
    "true for a count": '{"train_file": {"rows": true}}',
    "a share above one": '{"train_file": {"rows": 1, "scripts": {"Han": 2.5}}}',
    "a name without end": '{"train_file": {"rows": 1, "dropped": {"' + "x" * 300 + '": 1}}}',
    "an error without a code": '{"tokenizer": {"args": {}}}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_facts_that_do_not_fit_are_a_sentence(asked: Callable[[str], Any], name: str) -> None:
    with pytest.raises(ask_engine.InspectorDied) as died:
        asked(f"print('{{\"facts\": ' + {BROKEN[name]!r} + '}}')")
    assert died.value.cause == "failed"
    assert "its answer cannot be used" in died.value.error(CONFIG, "-").message.what()


@pytest.mark.parametrize("news", ['{"done": "x"}', '{"done": -1}', '{"doing": 3}', '{"error": 1}'])
def test_progress_that_does_not_fit_is_a_sentence(asked: Callable[[str], Any], news: str) -> None:
    with pytest.raises(ask_engine.InspectorDied, match="its answer cannot be used"):
        asked(f"print({news!r})")


def test_what_a_library_prints_is_no_answer(asked: Callable[[str], Any]) -> None:
    facts = asked("print('loading…'); print('[' * 100_000); print('7'); print('{\"facts\": {}}')")
    assert facts == DataFacts()


def test_an_answer_without_end_is_given_up(asked: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_engine, "LONGEST_ANSWER", 1 << 20)
    with pytest.raises(ask_engine.InspectorDied, match="an answer of more than 1 MB"):
        asked("import sys\nwhile True: sys.stdout.write('x' * 65536)")


def test_an_error_of_the_engine_is_raised(asked: Callable[[str], Any]) -> None:
    with pytest.raises(InputError) as refused:
        asked("""print('{"error": {"code": "rows_none", "args": {"path": "a.parquet"}}}')""")
    assert refused.value.message == Message("rows_none", {"path": "a.parquet"})
