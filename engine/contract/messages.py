"""Messages to people: a code with arguments, rendered in the reader's language by the program that shows it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from engine.contract.harmless import harmless
from engine.contract.texts import UNFIT, Argument, Lang, Phrase, filled, language, named, rendered, template

Value = Argument
WIDE_STOPS = ("。", "！", "？")  # after which Chinese has no space


@dataclass(frozen=True)
class Message:
    """A code of the catalogue with its arguments; `text` is for readers that do not know the code."""

    code: str
    args: Mapping[str, Value] = field(default_factory=dict)
    fallback: str = ""

    @classmethod
    def of(cls, code: str, /, **args: Value) -> Self:
        """The message `code` with its arguments."""
        return cls(code, args)

    def what(self, lang: Lang = "en") -> str:
        """What happened, in `lang`."""
        return self._render(lang)[0]

    def fix(self, lang: Lang = "en") -> str:
        """What to do about it, in `lang`; empty if there is nothing to do."""
        return self._render(lang)[1]

    def text(self, lang: Lang = "en") -> str:
        """Both, on one line."""
        what, fix = self.what(lang), self.fix(lang)
        gap = " " if what and fix and not what.endswith(WIDE_STOPS) else ""
        return what + gap + fix

    def _render(self, lang: Lang) -> tuple[str, str]:
        what, said = template(f"message.{self.code}.what", lang), (self.fallback or self.code, "")
        if not what:  # written by a newer version: show the text it came with
            return said
        args = rendered(with_twins(self.args, lang), lang)
        if isinstance(phase := args.get("phase"), str):
            args["phase"] = named("phase", phase, lang)
        args |= {f"{name}_in_shell": shlex.quote(value) for name, value in args.items() if isinstance(value, str)}
        try:
            said = filled(what, args), ""
            return said[0], filled(template(f"message.{self.code}.fix", lang), args)
        except UNFIT:
            return said


def for_terminal(message: Message) -> str:
    """What happened and what to do, in the language of this process, harmless to a terminal."""
    return harmless(message.text(language()))


def with_twins(args: Mapping[str, Value], lang: Lang) -> Mapping[str, Value]:
    """The arguments of messages of older versions: texts had Chinese twins, such as `why_zh`; a score was BLEU."""
    twins = {name.removesuffix("_zh"): value for name, value in args.items() if name.endswith("_zh")}
    args = {**args, **twins} if lang == "zh" else args
    if "bleu" not in args:
        return args
    scores = tuple(Phrase.of(f"score.{name}", value=args[name]) for name in ("bleu", "loss") if name in args)
    return {"score": scores[0], "scores": scores, **args}


class InputError(Exception):
    """The user's input cannot be used; ends the program with exit code 2."""

    exit_code = 2

    def __init__(self, code: str, /, **args: Value) -> None:
        self.message = Message(code, args)
        super().__init__(self.message.text())


class BusyError(InputError):
    """Another run holds something that this one needs; ends the program with exit code 3."""

    exit_code = 3
