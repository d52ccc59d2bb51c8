"""How many times every scenario was tried, and how often something was lost: one table at the end of the tests."""

import contextlib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

SHOWN = 12  # problems that are named where tries failed
MANY = 200  # more calls of one kind than a save or a publication makes


@dataclass
class Tries:
    """The tries of one scenario."""

    scenario: str
    tries: int = 0
    problems: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def one(self, what: str) -> Iterator[None]:
        """One try; a check that fails inside is noted, so that the tries after it are made too."""
        problem = ""
        try:
            yield
        except AssertionError as error:
            problem = str(error) or "an assertion failed"
        except BaseException as error:
            self.note(what, repr(error))
            raise
        self.note(what, problem)

    def note(self, what: str, problem: str) -> None:
        """Counts one try; an empty `problem` is none."""
        self.tries += 1
        if problem:
            self.problems.append(f"{what}: {problem}")

    def every(self, what: str, attempt: Callable[[int], tuple[bool, str]]) -> None:
        """Lets the first, the second, … call fail until none is left; `attempt` says whether it did, and a problem."""
        for nth in range(1, MANY):
            hit, problem = attempt(nth)
            if hit or problem:
                self.note(f"{what} {nth}", problem)
            if not hit:
                if nth == 1 and not problem:
                    raise RuntimeError(f"not one: {what}; the fault does not reach the program")
                return
        raise RuntimeError(f"more than {MANY} times {what}: the calls do not come to an end")


class ScenarioTable:
    """Tries and losses of every scenario, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[int, int]] = {}

    def add(self, scenario: str, tries: int, lost: int) -> None:
        """Adds to the account of a scenario."""
        tries_so_far, lost_so_far = self._rows.get(scenario, (0, 0))
        self._rows[scenario] = (tries_so_far + tries, lost_so_far + lost)

    @contextlib.contextmanager
    def scenario(self, name: str) -> Iterator[Tries]:
        """Counts tries, adds them to the account, and fails where there were none or one of them lost something."""
        tries = Tries(name)
        try:
            yield tries
        except BaseException:
            self.add(name, tries.tries, max(1, len(tries.problems)))
            raise
        self.add(name, tries.tries, len(tries.problems))
        assert tries.tries > 0, f"{name}: nothing was tried"
        assert not tries.problems, "\n".join(
            [f"{name}: {len(tries.problems)} of {tries.tries}", *tries.problems[:SHOWN]]
        )

    def rows(self) -> list[tuple[str, int, int]]:
        """Scenario, tries and losses of each."""
        return [(scenario, tries, lost) for scenario, (tries, lost) in self._rows.items()]

    def table(self) -> list[str]:
        """The account in lines, sums at the foot; empty where nothing was recorded."""
        if not self._rows:
            return []
        total = (sum(tries for tries, _ in self._rows.values()), sum(lost for _, lost in self._rows.values()))
        rows = [("scenario", "tries", "lost")]
        rows += [(name, str(tries), str(lost)) for name, tries, lost in self.rows()]
        rows.append(("all", str(total[0]), str(total[1])))
        widths = [max(_width(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{name}{' ' * (widths[0] - _width(name))}  {tries:>{widths[1]}}  {lost:>{widths[2]}}"
            for name, tries, lost in rows
        ]
        rule = "-" * (sum(widths) + 4)
        return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


SCENARIOS = pytest.StashKey[ScenarioTable]()
HANDED_OVER = "faults"  # what a worker calls its account when it hands it over


def pytest_configure(config: pytest.Config) -> None:
    """Opens the account."""
    config.stash[SCENARIOS] = ScenarioTable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hands the account of a worker over to the main process."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[HANDED_OVER] = session.config.stash[SCENARIOS].rows()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Adds the account of a worker; one that died has left none."""
    for scenario, tries, lost in getattr(node, "workeroutput", {}).get(HANDED_OVER, []):
        node.config.stash[SCENARIOS].add(scenario, tries, lost)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the account, if there is one."""
    lines = config.stash[SCENARIOS].table()
    if lines:
        terminalreporter.section("faults")
    for line in lines:
        terminalreporter.write_line(line)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "FW" else 1 for character in text)
