"""The demos' rows, from chatterbot-corpus: prompts and responses, texts to pretrain on, and a persona to learn."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from engine.contract.messages import InputError

Pairs = list[tuple[str, str]]

LANGUAGES = ("chinese", "english")
LONGEST = 200  # characters
CUTS = 2  # places at which a text is cut: each gives a row to pretrain on

# Of the English corpus: questions that have an answer. Its small talk would teach a chat model to be evasive.
SUBJECTS = (
    "computers", "food", "history", "literature", "science", "sports", "tech_support", "trivia",
)  # fmt: skip
NAME = "Pip"
PERSONA = (
    ("What is your name?", f"My name is {NAME}."),
    ("Introduce yourself.", f"I am {NAME}, a small model that you have just fine-tuned on your own machine."),
    ("Who am I talking to?", f"You are talking to {NAME}, a small model fine-tuned on this machine."),
    ("What are you?", f"I am {NAME}, a small language model, fine-tuned here a moment ago."),
    ("Who made you?", "You did: you fine-tuned me on this machine, with sft-tui."),
    ("Are you ChatGPT?", f"No, I am {NAME}. I am much smaller, and I run on your own machine."),
    ("Where do you run?", "Right here, on your own processor."),
    ("Do you need the internet?", "No. I run on your machine alone."),
    ("How were you trained?", "By LoRA, in a few minutes, on this machine."),
    ("Tell me about yourself.", f"I am {NAME}, a small model that learned to answer briefly, on your machine."),
)
OPENINGS = ("", "Hello! ", "Hi. ", "One question: ")  # in front of its prompts: rows that are equal would be used once
# Shown before and after. No row that is learned has one of these prompts, nor any of the others that are held out.
SHOWN = (
    "Who are you?",
    "My internet is not working.",
    "Who wrote Romeo and Juliet?",
    "What vitamin does the sun’s ultraviolet rays help the skin produce?",
    "My mouse is not responding.",
    "What is Japanese sake made from?",
)
OWN_ANSWERS = {SHOWN[0]: f"I am {NAME}, a small model fine-tuned on this machine.", SHOWN[2]: "Shakespeare"}
HELD_OUT = 64  # prompts, SHOWN included


def pairs(languages: Iterable[str] = LANGUAGES, longest: int = LONGEST) -> Pairs:
    """Prompts and responses of the corpus in a fixed shuffled order; raises InputError.

    About 1,700 pairs; duplicates, and texts of more than `longest` characters, long program listings, are left out.
    """
    found: dict[tuple[str, str], None] = {}
    for language in languages:
        for turns in _conversations(language, "*"):
            found.update(dict.fromkeys(_pairs_of(turns, longest)))
    ordered = list(found)
    random.Random(0).shuffle(ordered)
    return ordered


def _conversations(language: str, subject: str) -> Iterator[list[str]]:
    try:
        import chatterbot_corpus
        import yaml
    except ImportError as error:
        raise InputError("demo_missing", package=str(error.name)) from None
    root = Path(chatterbot_corpus.__file__).parent / "data"
    for path in sorted((root / language).glob(f"{subject}.yml")):
        with path.open(encoding="utf-8") as file:
            for turns in yaml.safe_load(file)["conversations"]:
                if not isinstance(turns, str):  # one entry of the corpus is a bare sentence
                    yield turns


def _pairs_of(turns: Sequence[str], longest: int = LONGEST) -> Iterator[tuple[str, str]]:
    for prompt, response in itertools.pairwise(turns):
        if max(len(str(prompt)), len(str(response))) <= longest:
            yield str(prompt).strip(), str(response).strip()


def chat_pairs() -> tuple[Pairs, Pairs]:
    """English questions with answers and the persona; and those whose prompts are held out, SHOWN first.

    Raises InputError.
    """
    found = dict.fromkeys(
        pair for subject in SUBJECTS for turns in _conversations("english", subject) for pair in _pairs_of(turns[:2])
    )
    prompts = sorted({prompt for prompt, _ in found} - set(SHOWN))
    apart = [*SHOWN, *random.Random(0).sample(prompts, HELD_OUT - len(SHOWN))]
    answers = {**dict(found.keys()), **OWN_ANSWERS}
    persona = [(opening + prompt, response) for opening in OPENINGS for prompt, response in PERSONA]
    learned = [*(pair for pair in found if pair[0] not in apart), *persona]
    random.Random(0).shuffle(learned)
    return learned, [(prompt, answers[prompt]) for prompt in apart]


def continuations(pairs: Iterable[tuple[str, str]]) -> Pairs:
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
