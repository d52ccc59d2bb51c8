"""The command line of a child process that runs one of our modules, and the signal that ended one."""

import signal
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Runs `module` with this Python.

    `-P` keeps the working folder off `sys.path`: people may run us inside a folder that they downloaded, and a
    `numpy.py` or an `engine/` there must not be executed.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def signal_of(code: int) -> str:
    """The name of the signal that ended a process, from its exit code in subprocess; empty if it exited by itself."""
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
