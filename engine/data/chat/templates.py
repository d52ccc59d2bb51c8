"""A model's chat template: found, rendered in transformers' sandbox within limits, with every failure in a sentence."""

import json
import re
import resource
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import SecurityError, TemplateSyntaxError

from engine.contract.files import read_whole
from engine.contract.harmless import harmless
from engine.contract.messages import InputError
from engine.contract.template_options import parsed_options
from engine.contract.texts import Phrase
from engine.contract.untrusted import one_line
from engine.data.chat.sandbox import LargeNumberError, use_bounded_sandbox
from engine.data.shapes.account import RefusedError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_NAME, CHATML_TOKENS = "chatml", ("<|im_start|>", "<|im_end|>")
MOST_BYTES = 1 << 20  # of a template's file
MOST_CHARACTERS = 1 << 20  # of a rendered conversation, on top of this many times its own:
MOST_TIMES = 32
MOST_MEMORY = 1 << 30  # bytes that a rendering may add to the process
MEASURED_EVERY = 256  # renderings
SHOWN = 120  # characters of what a template says
Message = dict[str, Any]
Tools = Sequence[dict[str, Any]]


@dataclass
class ChatTemplate:
    """The template that makes text of conversations, with its options, over one tokenizer.

    `text` is None for the tokenizer's own, of which some have several by name.
    """

    tokenizer: "PreTrainedTokenizerBase"
    name: str
    text: str | None
    options: dict[str, Any] = field(default_factory=dict)
    _rendering: bool = False
    _renderings: int = 0
    _limit: int = 0

    def __post_init__(self) -> None:
        use_bounded_sandbox()

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", setting: str, options: str) -> "ChatTemplate":
        """The template that `setting` names: empty for the tokenizer's own, a built-in one, or a file.

        Raises InputError if there is none.
        """
        given = parsed_options(options)
        if not setting:
            if not tokenizer.chat_template:
                raise InputError("chat_template_missing", path=str(tokenizer.name_or_path))
            return cls(tokenizer, str(tokenizer.name_or_path), None, given)
        return cls(tokenizer, setting, read_template(setting, tokenizer), given)

    @property
    def unused_options(self) -> tuple[str, ...]:
        """The options whose names do not occur in it, so that they change nothing."""
        known = set(re.findall(r"\w+", json.dumps(self.text or self.tokenizer.chat_template).replace("\\n", " ")))
        return tuple(name for name in self.options if name not in known)

    @property
    def identity(self) -> str:
        """What decides how it renders, apart from the tokenizer's vocabulary."""
        text = self.text or self.tokenizer.chat_template
        return json.dumps([text, self.options, dict(self.tokenizer.special_tokens_map)], sort_keys=True)

    @property
    def writes_the_date(self) -> bool:
        """Whether it may write the day on which it renders, and no option gives it another."""
        return "strftime_now" in self.identity and not any("date" in name for name in self.options)

    def at_work(self) -> str:
        """Its name while it renders, else nothing: for a thread that waits and wants to know what for."""
        return self.name if self._rendering else ""

    def render(self, messages: Sequence[Message], tools: Tools | None, *, prompt: bool) -> str:
        """The text of a conversation, with the generation prompt if `prompt`.

        Raises RefusedError if the template refuses this conversation, and InputError if it can render none.
        """
        try:
            with self._limited():
                text = self.tokenizer.apply_chat_template(
                    list(messages),
                    tools=None if tools is None else list(tools),
                    chat_template=self.text,
                    add_generation_prompt=prompt,
                    tokenize=False,
                    **self.options,
                )
        except LargeNumberError:
            raise self.bad(Phrase("why.template_number")) from None
        except (TemplateSyntaxError, SecurityError) as error:
            raise self.bad(_said(error)) from None
        except MemoryError:
            raise self.bad(Phrase("why.template_memory")) from None
        except Exception as error:  # raise_exception of a template, or whatever its expressions raise
            raise RefusedError("template_refuses", _said(error)) from None
        self._require_bounded(text, messages, tools)
        return str(text)

    def _require_bounded(self, text: Any, messages: Sequence[Message], tools: Tools | None) -> None:
        if len(text) <= MOST_CHARACTERS:
            return
        given = len(json.dumps([list(messages), tools], ensure_ascii=False))
        if len(text) > MOST_CHARACTERS + MOST_TIMES * given:
            raise self.bad(Phrase.of("why.template_output", made=len(text), given=given))

    def bad(self, why: str | Phrase) -> InputError:
        """The error to raise about the template."""
        return InputError("chat_template_bad", path=self.name, why=why)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Limits the memory that this process may have while the template is at work."""
        if self._renderings % MEASURED_EVERY == 0:  # reading it takes as long as a short rendering
            self._limit = _data_now() + MOST_MEMORY
        self._renderings += 1
        self._rendering = True
        try:
            with _MEMORY.limited(self._limit):
                yield
        finally:
            self._rendering = False


class _Memory:
    """The memory of this process, limited while templates work: one that was given up works on next to others."""

    def __init__(self) -> None:
        self._lock, self._working = threading.Lock(), 0
        self._before = resource.getrlimit(resource.RLIMIT_DATA)

    @contextmanager
    def limited(self, most: int) -> Iterator[None]:
        """Limits it to `most` bytes; what was allowed before is allowed again when none is at work."""
        with self._lock:
            if not self._working:
                self._before = resource.getrlimit(resource.RLIMIT_DATA)
            self._working += 1
            soft, hard = self._before
            if soft == resource.RLIM_INFINITY or most < soft:
                resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    resource.setrlimit(resource.RLIMIT_DATA, self._before)


_MEMORY = _Memory()


def _data_now() -> int:
    """Bytes of private memory of this process."""
    pages = int(Path("/proc/self/statm").read_bytes().split()[5])
    return pages * resource.getpagesize()


def lacking_chatml(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether a tokenizer has not both tokens of chatml."""
    return not set(CHATML_TOKENS) <= tokenizer.get_vocab().keys()


def _said(error: Exception) -> str:
    """The words of an error, on one line, harmless to a terminal."""
    return harmless(one_line(error, SHOWN))


def read_template(setting: str, tokenizer: "PreTrainedTokenizerBase") -> str:
    """The built-in template `chatml`, or the one in a file; raises InputError.

    A tokenizer without the tokens of chatml reads its marks as text. A turn then ends with the tokenizer's own end
    token, since a model must end it with one.
    """
    if setting == CHATML_NAME:
        return CHATML.replace("'<|im_end|>'", "eos_token") if lacking_chatml(tokenizer) else CHATML
    try:
        return read_whole(Path(setting).resolve(), MOST_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
        raise InputError("chat_template_bad", path=setting, why=why) from None
