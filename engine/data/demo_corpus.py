"""The demo's rows, from chatterbot-corpus, Chinese and English: prompts and responses, and texts to pretrain on."""

import itertools
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.contract.messages import InputError

LANGUAGES = ("chinese", "english")
LONGEST = 200  # characters
CUTS = 2  # places at which a text is cut: each gives a row to pretrain on


def pairs(languages: Iterable[str] = LANGUAGES, longest: int = LONGEST) -> list[tuple[str, str]]:
    """Prompts and responses of the corpus in a fixed shuffled order; raises InputError.

    About 2,900 pairs; duplicates, and texts of more than `longest` characters, long program listings, are left out.
    """
    try:
        import chatterbot_corpus
        import yaml
    except ImportError as error:
        raise InputError("demo_missing", package=str(error.name)) from None
    root = Path(chatterbot_corpus.__file__).parent / "data"
    found: dict[tuple[str, str], None] = {}
    for language in languages:
        for path in sorted((root / language).glob("*.yml")):
            with path.open(encoding="utf-8") as file:
                found.update(dict.fromkeys(_pairs_of(yaml.safe_load(file)["conversations"], longest)))
    ordered = list(found)
    random.Random(0).shuffle(ordered)
    return ordered


def _pairs_of(conversations: list[list[str] | str], longest: int) -> Iterator[tuple[str, str]]:
    for turns in conversations:
        if isinstance(turns, str):  # one entry of the corpus is a bare sentence
            continue
        for prompt, response in itertools.pairwise(turns):
            if max(len(str(prompt)), len(str(response))) <= longest:
                yield str(prompt).strip(), str(response).strip()


def continuations(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Beginnings of these texts with their continuations, in a fixed shuffled order.

    A model pretrained on them has seen every text but no reply, which leaves something for fine-tuning to teach.
    """
    chance = random.Random(0)
    rows: dict[tuple[str, str], None] = {}
    for text in dict.fromkeys(itertools.chain.from_iterable(pairs)):
        parts = text.split(" ")
        joint = " "
        if len(parts) == 1:  # Chinese is written without spaces
            parts, joint = list(text), ""
        for place in chance.sample(range(1, len(parts)), min(CUTS, len(parts) - 1)):
            rows[joint.join(parts[:place]), joint.join(parts[place:])] = None
    ordered = list(rows)
    chance.shuffle(ordered)
    return ordered
