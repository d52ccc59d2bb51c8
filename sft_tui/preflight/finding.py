"""A finding of a check: its level and subject, what was found, why it matters, and what fixes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.contract.messages import Message
from engine.contract.texts import Lang, Phrase, filled, rendered, template
from sft_tui.preflight.fix import Action, command_of

Level = Literal["ok", "warning", "error"]
ORDER: dict[Level, int] = {"error": 0, "warning": 1, "ok": 2}


def words(code: str, part: str, lang: Lang) -> str:
    """What a check says in its part what, why or fix, with placeholders; empty if the engine's message says it."""
    return template(f"check.{code}.{part}", lang)


@dataclass(frozen=True)
class Finding:
    """The result of one check; `subject` is the setting or resource it concerns, and `actions`, in order, fix it.

    `advice` says what they do, if that is not always the same; `others` are other ways, each with its own actions.
    """

    level: Level
    code: str
    subject: str
    args: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    others: tuple[tuple[Action, ...], ...] = ()
    advice: Phrase | None = None

    @property
    def ways(self) -> tuple[tuple[Action, ...], ...]:
        """All ways to fix it, the recommended one first."""
        found = [way for way in (self.actions, *self.others) if way]
        return tuple(way for place, way in enumerate(found) if way not in found[:place])

    @property
    def command(self) -> str:
        """The fix as one shell command line; empty if there is none."""
        return command_of(self.actions)

    def what(self, lang: Lang = "en") -> str:
        """What was found."""
        return self._said("what", lang) or self._message().what(lang)

    def why(self, lang: Lang = "en") -> str:
        """Why it matters; empty if nothing is wrong."""
        return self._said("why", lang)

    def fix(self, lang: Lang = "en") -> str:
        """What to do; empty if there is nothing to do."""
        if self.advice is not None:
            return Phrase.of(self.advice.key, **self.advice.args, command=self.command).text(lang)
        return self._said("fix", lang) or ("" if self.level == "ok" else self._message().fix(lang))

    def to_json(self, lang: Lang = "en") -> dict[str, str]:
        """Its parts as plain values; `command` is for people, programs take the lists of words in `actions`."""
        texts = {"what": self.what(lang), "why": self.why(lang), "fix": self.fix(lang)}
        return {"level": self.level, "code": self.code, "subject": self.subject, **texts, "command": self.command}

    def _said(self, part: str, lang: Lang) -> str:
        return filled(words(self.code, part, lang), {"command": self.command, **rendered(self.args, lang)})

    def _message(self) -> Message:
        known = {name: arg for name, arg in self.args.items() if isinstance(arg, str | int | float | Phrase | tuple)}
        return Message(self.code, known)


def sized(item: str, amount: str) -> Phrase:
    """An item that takes memory or disk space, with its size."""
    return Phrase.of("item.sized", item=Phrase.of(f"item.{item.replace(' ', '_')}"), size=amount)
