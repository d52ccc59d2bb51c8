"""What comes through a pipe."""

import io
import os
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.contract.messages import InputError
from sft_tui import data_import, spool
from tests.sft_tui.test_data_import import LINES


@pytest.mark.parametrize("name", ["-", "fifo"])
def test_rows_can_come_through_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(LINES.encode())))
    named = name if name == "-" else str(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(LINES,), daemon=True)
    writer.start()
    found = data_import.import_rows([named])
    assert (found.records, found.kept) == (3, 1)
    assert [file.path for file in found.files] == [named]


def test_an_endless_pipe_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    assert spool.is_stream("/dev/zero")
    with ExitStack() as stack, pytest.raises(InputError) as refused:
        spool.spooled("/dev/zero", stack)
    assert refused.value.message.code == "source_endless"
