"""The text of a reply while its tokens come in."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INCOMPLETE = "\ufffd"  # what the first bytes of a character decode to


class ReplyText:
    """Decodes the tokens of a reply so far, and gives only text that further tokens do not change.

    The beginning of a character is held back, and so is white space, which some tokenizers drop before the next word.
    Tokens are decoded from the first each time, since what one adds can depend on all before it.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._given = ""

    @property
    def whole(self) -> str:
        """The text of all tokens."""
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=True)) if self._ids else ""

    def add(self, token: int) -> str:
        """More text, empty if there is none to be sure of yet."""
        self._ids.append(token)
        sure = self.whole.rstrip(INCOMPLETE).rstrip()
        return self._more(sure) if sure.startswith(self._given) else ""

    def rest(self) -> str:
        """What was held back, at the end of the reply."""
        return self._more(self.whole)

    def _more(self, text: str) -> str:
        more, self._given = text[len(self._given) :], text
        return more
