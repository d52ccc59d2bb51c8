"""The command line of a child process that runs one of our modules."""

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Runs `module` with this Python.

    `-P` keeps the working folder off `sys.path`: people may run us inside a folder that they downloaded, and a
    `numpy.py` or an `engine/` there must not be executed.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
