"""The fixtures of the engine's tests that are needed here too."""

from tests.engine.conftest import launch_two, make_run, start, uncut_on_two

__all__ = ["launch_two", "make_run", "start", "uncut_on_two"]
