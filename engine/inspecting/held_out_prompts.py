"""Prompts of a file of held-out rows that the training file lacks, to compare models by."""

import contextlib
import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.facts import LONGEST_PROMPT, MOST_PROMPTS, PromptFacts
from engine.data.parquet_rows import RowSource
from engine.data.shapes.account import RefusedError
from engine.inspecting.answer_lines import send

MOST_ROWS = 100_000  # of the held-out file


def held_out_prompts(config: RunConfig, setting: str, count: int, seed: int) -> PromptFacts:
    """At most `count` prompts of the file of a setting, in an order that the seed decides; raises InputError."""
    send(doing=setting)
    found: dict[bytes, str] = {}  # long ones empty: files of whole documents would take gigabytes
    for said in islice(_said_by_users(config, setting), MOST_ROWS):
        found.setdefault(_digest(said[0]), said[0] if len(said[0]) <= LONGEST_PROMPT else "")
    compared, trained = Path(config.train_file).is_file(), set[bytes]()
    if compared:
        send(doing="train_file")
        for said in _said_by_users(config, "train_file"):
            trained.update(digest for text in said if (digest := _digest(text)) in found)
    short = {digest: text for digest, text in found.items() if text and digest not in trained}
    order = sorted(short, key=lambda digest: hashlib.blake2b(digest, key=str(seed).encode()).digest())
    chosen = tuple(short[digest] for digest in order[: min(count, MOST_PROMPTS)])
    return PromptFacts(chosen, len(found), len(trained), len(found) - len(trained) - len(short), compared)


def _said_by_users(config: RunConfig, setting: str) -> Iterator[list[str]]:
    """What the user says in each conversation that can be used; a pair is one of a single question."""
    source = RowSource.of(config, setting, "pairs")
    with contextlib.closing(source.open()) as file:
        for conversations in source.conversations(file):
            for one in conversations:
                said = [] if isinstance(one, RefusedError) else [turn.text for turn in one.turns if turn.role == "user"]
                if said and said[0].strip():
                    yield said


def _digest(text: str) -> bytes:
    """Equal for texts that differ only in white space."""
    return hashlib.blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()
