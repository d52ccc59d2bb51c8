"""What a benchmark starts ends with it, whatever ends the benchmark, apart from SIGKILL."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_what_a_benchmark_started_ends_with_it(tmp_path: Path, kind: signal.Signals) -> None:
    child = "import subprocess; subprocess.run(['sleep', '600'])"
    program = (
        "import signal, sys; from pathlib import Path; from bench.children import ended, raise_on_signals; "
        "raise_on_signals(); "
        f"ended([sys.executable, '-c', {child!r}], {{}}, Path({str(tmp_path / 'log')!r}))"
    )
    bench = psutil.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while len(started := bench.children(recursive=True)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(bench.pid, kind)
    assert bench.wait(60) != 0
    assert not psutil.wait_procs(started, timeout=60)[1]
