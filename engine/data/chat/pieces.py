"""Rendered conversations as token ids, each part between special tokens tokenized once.

A tokenizer cuts a text at its added tokens before it does anything else, so what is between two of them has the same
ids wherever it stands. The texts of a conversation's turns repeat each other: only what is new in them is tokenized.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_ANCHORS = 64


class Pieces:
    """The ids of texts by a tokenizer; `samples` are texts with the special tokens that are worth cutting at."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", samples: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        self._backend = None if tokenizer.split_special_tokens else getattr(tokenizer, "backend_tokenizer", None)
        self._anchors = self._found_anchors(samples) if self._backend is not None else {}
        self._anchor = next(iter(self._anchors), "")
        # Among tokens that begin at one place a tokenizer takes the longest.
        longest_first = sorted(map(re.escape, self._anchors), key=len, reverse=True)
        self._cuts = re.compile(f"({'|'.join(longest_first)})") if longest_first else None
        self._known: dict[str, list[int]] = {}

    def forget(self) -> None:
        """Forgets the pieces seen so far."""
        self._known.clear()

    def learn(self, texts: Iterable[str]) -> None:
        """Tokenizes all pieces of some texts at once."""
        new = {name for text in texts for name in self._names(text)[0]} - self._known.keys()
        names = sorted(new)
        self._known.update(zip(names, self._encoded(names), strict=True))

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without any that a tokenizer would add to it."""
        names, anchors = self._names(text)
        found = list(self._of(names[0]))
        for anchor, name in zip(anchors, names[1:], strict=True):
            found.append(self._anchors[anchor])
            found += self._of(name)[1:]
        return found

    def behind(self, prompt: str, before: list[int], text: str) -> list[int]:
        """The ids of a text behind a prompt, whose own ids `before` do not change.

        If the two would have tokens in common, the text is tokenized apart, and without what some tokenizers put
        before the first word of a text.
        """
        whole = self.ids(prompt + text)
        if whole[: len(before)] == before:
            return whole[len(before) :]
        return self.ids(self._anchor + text)[1 if self._anchor else 0 :]

    def _names(self, text: str) -> tuple[list[str], list[str]]:
        """The pieces of a text, each but the first with an anchor before it, and the anchors between them."""
        if self._cuts is None:
            return [text], []
        first, *rest = self._cuts.split(text)
        return [first, *(self._anchor + piece for piece in rest[1::2])], rest[::2]

    def _of(self, name: str) -> list[int]:
        found = self._known.get(name)
        if found is None:
            (found,) = self._encoded([name])
            self._known[name] = found
        return found

    def _encoded(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        if self._backend is None:
            found: list[list[int]] = self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            return found
        if self._backend.truncation or self._backend.padding:
            self._backend.no_truncation()
            self._backend.no_padding()
        return [one.ids for one in self._backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _found_anchors(self, samples: Iterable[str]) -> dict[str, int]:
        """The special tokens in the samples that nothing else can be part of, with their ids."""
        added = {token.content: (number, token) for number, token in self._tokenizer.added_tokens_decoder.items()}
        found = {}
        for text in samples:
            for name, (number, token) in added.items():
                plain = not (token.normalized or token.lstrip or token.rstrip or token.single_word)
                if plain and name in text and _stands_alone(name, added.keys()):
                    found[name] = number
        return dict(list(found.items())[:MOST_ANCHORS])


def _stands_alone(name: str, others: Iterable[str]) -> bool:
    """Whether no other token can cover a part of this one, nor a word continue over its edges."""
    if not name or name[0].isalnum() or name[-1].isalnum() or name[0].isspace() or name[-1].isspace():
        return False
    return not any(other != name and (name in other or _overlap(name, other)) for other in others)


def _overlap(one: str, other: str) -> bool:
    """Whether one of two texts can begin inside the other and end beyond it."""
    return any(
        first.endswith(second[:size])
        for first, second in ((one, other), (other, one))
        for size in range(1, min(len(one), len(other)))
    )
