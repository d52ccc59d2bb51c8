"""Nothing that a test starts outlives pytest, in whatever way that ends."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import watchdog
from tests.processes import until

PROGRAM = """
import os, signal, subprocess
from tests import watchdog
watchdog.begin()
detached = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True); input()"
child = subprocess.Popen([{python!r}, "-c", detached], start_new_session=True, stdin=subprocess.PIPE)
while len(list(watchdog.marked(os.environ[watchdog.TOKEN]))) < 2: pass
print(os.environ[watchdog.TOKEN], flush=True)
{end}
"""


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getpid(), signal.SIGTERM)", "raise SystemExit"]
)
def test_detached_processes_end_with_the_test_process(end: str) -> None:
    unrelated = subprocess.Popen(["sleep", "600"])
    env = {name: value for name, value in os.environ.items() if name != watchdog.TOKEN}
    program = PROGRAM.format(python=sys.executable, end=end)
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program], cwd=Path(__file__).parents[1], env=env, stdout=subprocess.PIPE, check=False
        )
        token = ended.stdout.decode().strip()
        until(lambda: not list(watchdog.marked(token)))
        assert len(token) == 32
        assert psutil.Process(unrelated.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        unrelated.kill()
        unrelated.wait()


def test_every_process_of_the_tests_is_marked() -> None:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        until(lambda: child.pid in watchdog.marked(os.environ[watchdog.TOKEN]), 30)  # a program just begun has none
    finally:
        child.kill()
        child.wait()
