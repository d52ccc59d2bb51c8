"""The command line of a child process that runs one of our modules."""

import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """Runs `module` with this Python.

    `-P` keeps the working folder off the path of imports: people call us inside what they downloaded, and a `numpy.py`
    or an `engine/` there must not be run.
    """
    return [sys.executable, "-P", "-m", module, *arguments]
