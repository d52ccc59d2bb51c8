"""A check is one declaration: its code, its level, the judgement of its facts, and its remedy.

A check of ours is a function under `@GROUP.check(code, …)`, from typed facts to what it saw; an error that the engine
raises by itself is declared by `GROUP.error(code, …)`. Its words are `check.<code>.what`, `why` and `fix` in the
catalogues, and its row in docs/preflight.md is made from the docstrings of check and remedy.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypedDict, TypeVar, Unpack

from engine.contract.config import RunConfig
from engine.contract.facts import DATA_FILES
from engine.contract.messages import Message
from engine.contract.texts import Phrase
from sft_tui.preflight.finding import Finding, Level
from sft_tui.preflight.fix import Action, Command, Start

Facts = TypeVar("Facts")
Actions = tuple[Action, ...]
Rerun = Callable[..., Action]  # the action that checks the run again with other settings


@dataclass(frozen=True)
class Seen:
    """What a judgement saw: the arguments of its words, and what differs from its check's declaration."""

    args: Mapping[str, Any] = field(default_factory=dict)
    level: Level | None = None
    subject: str = ""


@dataclass(frozen=True)
class Advice:
    """Actions, and the words for them in place of the check's own, with the placeholder {command}."""

    words: Phrase
    actions: Actions = ()


@dataclass(frozen=True)
class CheckedRun:
    """A checked run and its findings; `check` makes the action that checks it again with other settings."""

    config: RunConfig
    check: Rerun
    findings: list[Finding]
    start: Start | None = None  # the action that starts it; None if rows alone were checked
    rehearse: Command | None = None
    pad: int | None = None  # the tokenizer's pad token
    places: int = 0  # most tokens per row in this model; 0: any number

    def subjects(self, *codes: str) -> set[str]:
        """The subjects of findings with these codes."""
        return {finding.subject for finding in self.findings if finding.code in codes}

    @property
    def broken(self) -> set[str]:
        """The subjects with errors."""
        return {finding.subject for finding in self.findings if finding.level == "error"}

    @property
    def data_files(self) -> set[str]:
        """The data files that were looked at."""
        return {finding.subject for finding in self.findings} & set(DATA_FILES)


Judge = Callable[[Facts], Iterator[Seen]]
Remedy = Callable[[Finding, CheckedRun], Actions | Advice]
Others = Callable[[Finding, CheckedRun], Iterator[Actions]]


class Fixes(TypedDict, total=False):
    """What a declaration may say of its subject and its remedies; see `Check`."""

    subject: str
    remedy: Remedy
    others: Others
    of_rows: bool


@dataclass(frozen=True)
class Check:
    """A declared check; `about` says what it finds, `others` are further ways to fix it."""

    code: str
    levels: tuple[Level, ...]
    about: str
    subject: str = ""  # the setting or resource; empty: that of its facts
    remedy: Remedy | None = None
    others: Others | None = None
    of_rows: bool = False  # its remedy is also for `data check`, which has no run

    def finding(self, seen: Seen, subject: str) -> Finding:
        """The finding of what its judgement saw; `subject` is that of the facts."""
        return Finding(seen.level or self.levels[0], self.code, seen.subject or self.subject or subject, seen.args)


def of_message(message: Message, subject: str = "") -> Finding:
    """The finding for an error of the engine; its check's own subject comes before `subject`."""
    check = CHECKS.get(message.code)
    subject = (check.subject if check else "") or subject or str(message.args.get("setting", ""))
    return Finding("error", message.code, subject, message.args)


def with_remedies(run: CheckedRun, *, of_rows: bool = False) -> Iterator[Finding]:
    """The findings with their remedies; with `of_rows` only with those for rows that are checked alone."""
    for finding in run.findings:
        check = CHECKS.get(finding.code)
        if check is None or check.remedy is None or finding.level == "ok" or (of_rows and not check.of_rows):
            yield finding
            continue
        found = check.remedy(finding, run)
        words, actions = (found.words, found.actions) if isinstance(found, Advice) else (None, found)
        others = tuple(check.others(finding, run)) if check.others and actions else ()
        yield replace(finding, advice=words, actions=actions, others=others)


CHECKS: dict[str, Check] = {}
GROUPS: list["Group[Any]"] = []


class Group(Generic[Facts]):
    """The checks of one kind of facts, in the order in which their findings should be fixed.

    `title` is that of their table in docs/preflight.md, `subject` the setting or resource that they concern.
    """

    def __init__(self, title: str, subject: str = "") -> None:
        self.title, self.subject = title, subject
        self.checks: list[tuple[Check, Judge[Facts] | None]] = []
        GROUPS.append(self)

    def check(self, code: str, *levels: Level, **more: Unpack[Fixes]) -> Callable[[Judge[Facts]], Judge[Facts]]:
        """Declares the check that a judgement makes; its first level is the usual one."""

        def declared(judge: Judge[Facts]) -> Judge[Facts]:
            self._declare(Check(code, levels, judge.__doc__ or "", **more), judge)
            return judge

        return declared

    def error(self, code: str, about: str, **more: Unpack[Fixes]) -> None:
        """Declares an error that the engine raises by itself."""
        self._declare(Check(code, ("error",), about, **more), None)

    def findings(self, facts: Facts, subject: str = "") -> Iterator[Finding]:
        """The findings on some facts."""
        for check, judge in self.checks:
            if judge is not None:
                yield from (check.finding(seen, subject or self.subject) for seen in judge(facts))

    def _declare(self, check: Check, judge: Judge[Facts] | None) -> None:
        if check.code in CHECKS:
            raise ValueError(f"two checks named {check.code}")
        CHECKS[check.code] = check
        self.checks.append((check, judge))
