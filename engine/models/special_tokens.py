"""The special tokens that a model's configuration names, as facts may hold them."""

import json
from collections.abc import Callable
from typing import Any

from engine.contract.bounds import WIDEST
from engine.contract.facts import LONGEST_NAME, SpecialTokens


def special_tokens(value_of: Callable[[str], Any], needed: tuple[str, ...]) -> SpecialTokens:
    """The tokens of a configuration, whose values `value_of` returns by transformers' names, whatever they are.

    `needed` names those that a model cannot do without.
    """
    pad, eos, start = (value_of(f"{name}_token_id") for name in ("pad", "eos", "decoder_start"))
    ends = eos[:LONGEST_NAME] if isinstance(eos, list) else [] if eos is None else [eos]
    known = tuple(one for end in ends if (one := _number(end)) is not None)
    return SpecialTokens(_number(pad), known, _number(start), needed)


def _number(value: Any) -> int | str | None:
    """A token's number, or a text that shows what stands in its place."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < WIDEST):
        return value
    return json.dumps(value, default=str)[:LONGEST_NAME]
