"""The command line of a child process that runs one of our modules, and the signal that ended one."""

import signal
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Runs `module` with this Python.

    `-P` keeps the working folder off the path of imports: people call us inside what they downloaded, and a `numpy.py`
    or an `engine/` there must not be run.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def signal_of(code: int) -> str:
    """The signal that an exit code as subprocess gives it stands for; empty where the process left by itself."""
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
