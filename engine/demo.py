"""The demo's rows: prompts and responses of chatterbot-corpus, Chinese and English."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from engine.contract.messages import InputError

LANGUAGES = ("chinese", "english")
LONGEST = 200  # characters


def pairs() -> list[tuple[str, str]]:
    """Prompts and responses of the corpus in a fixed shuffled order; raises InputError.

    About 2,900 pairs, of which those that repeat another and the long program listings are left out.
    """
    try:
        import chatterbot_corpus
        import yaml
    except ImportError as error:
        raise InputError("demo_missing", package=str(error.name)) from None
    root = Path(chatterbot_corpus.__file__).parent / "data"
    found: dict[tuple[str, str], None] = {}
    for language in LANGUAGES:
        for path in sorted((root / language).glob("*.yml")):
            with path.open(encoding="utf-8") as file:
                found.update(dict.fromkeys(_pairs_of(yaml.safe_load(file)["conversations"])))
    ordered = list(found)
    random.Random(0).shuffle(ordered)
    return ordered


def _pairs_of(conversations: list[list[str] | str]) -> Iterator[tuple[str, str]]:
    for turns in conversations:
        if isinstance(turns, str):  # one entry of the corpus is a sentence by itself
            continue
        for prompt, response in itertools.pairwise(turns):
            if max(len(str(prompt)), len(str(response))) <= LONGEST:
                yield str(prompt).strip(), str(response).strip()
