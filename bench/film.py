"""The film: from a file of conversations in an empty folder to a model trained, tested, compared and talked to.

Nothing is done outside the screen and no path is typed. Every scene is kept at two sizes, as text and as a picture;
`keys.md` has how many keys each took.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from bench.tmux import Tmux
from engine.contract.texts import Lang, say
from engine.data import demo_corpus

LARGE, SMALL = (120, 40), (80, 24)
CONVERSATIONS, MOST_EXCHANGES = 200, 3
RUN, AGAIN = "chat-lora-1", "chat-lora-2"
TOPICS = ("english",)
QUESTION = "What kind of computers do you work on?"


def write_conversations(path: Path) -> None:
    """Writes conversations of one to three exchanges, as most data sets have them."""
    chance, pairs = random.Random(0), demo_corpus.pairs(TOPICS)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(CONVERSATIONS):
            messages = []
            for question, answer in chance.sample(pairs, chance.randint(1, MOST_EXCHANGES)):
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


class Film:
    """A walk whose scenes are kept at both sizes, with the keys pressed before each."""

    def __init__(self, tmux: Tmux, lang: Lang) -> None:
        self.tmux, self.lang = tmux, lang
        self.scenes: list[tuple[str, int]] = []

    def words(self, key: str, **args: object) -> str:
        """A text of the screen."""
        return say(key, self.lang, **args)

    def scene(self, name: str, *words: str, until: Callable[[str], bool] | None = None) -> None:
        """Keeps what is shown once it has the words."""
        self.scenes.append((name, self.tmux.pressed))
        for size in (LARGE, SMALL):
            self.tmux.resize(size)
            columns, rows = size
            shown = f"film-{self.lang}-{columns}x{rows}-{len(self.scenes):02d}-{name}"
            self.tmux.keep(shown, *(words if size == LARGE else ()), until=until, picture=True)
        self.tmux.resize(LARGE)

    def count(self, path: Path) -> None:
        """Writes how many keys each scene took."""
        lines = ["| | keys |", "|---|---:|", *(f"| {name} | {keys} |" for name, keys in self.scenes)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def share_done(shown: str) -> bool:
    """Whether a bar of the screen is past its middle."""
    shares = [int(share) for share in re.findall(r"[━─]+ +(\d+) %", shown)]
    return bool(shares) and shares[-1] >= 55


def film(tmux: Tmux, lang: Lang, kept: Path) -> None:
    """Makes the film in a language."""
    write_conversations(tmux.folder / "data.jsonl")
    tmux.open("--lang", lang)
    shot = Film(tmux, lang)
    begin(shot)
    train(shot)
    judge(shot)
    talk(shot)
    tmux.press("escape")
    shot.count(kept / f"film-{lang}-keys.md")
    tmux.kill()


def begin(shot: Film) -> None:
    """From the file to a run that has begun, by enter alone."""
    tmux = shot.tmux
    shot.scene("here", "data.jsonl", "200")
    tmux.press("Enter")
    shot.scene("import", "198")
    tmux.press("Enter")
    tmux.wait("data/chat_test.parquet", shot.words("import.written"))
    tmux.press("Enter")
    shot.scene("next", "data/chat_train.parquet", "SmolLM2")
    tmux.press("Enter")
    shot.scene("models", "SmolLM2-135M-Instruct", "134.5")
    tmux.press("Enter")
    shot.scene("what-learns", "LoRA", "1.79")
    tmux.press("Enter")
    shot.scene("ready", "chat-lora", shot.words("launch.ready"))
    tmux.press("Enter")


def train(shot: Film) -> None:
    """The run, and its test."""
    tmux, finished = shot.tmux, shot.words("status.finished")
    shot.scene("run", RUN, until=share_done)
    shot.scene("finished", f"{RUN} · ✓ {finished}")
    tmux.press("x", "Left", "Left")
    shot.scene("cursor", RUN)
    tmux.press("Enter")
    shot.scene("rows", "%")
    tmux.press("Escape", "Escape", "T")
    tmux.wait("y/n")
    tmux.press("y")
    shot.scene("tested", f"test-{RUN}", finished)


def judge(shot: Film) -> None:
    """Another run like it with one setting changed, and both compared."""
    tmux = shot.tmux
    tmux.press("l")


def talk(shot: Film) -> None:
    """A conversation with the model before and after, side by side, and a blind comparison."""
    tmux = shot.tmux
    tmux.press("i")
    tmux.wait("SmolLM2")
    tmux.say(QUESTION)
    shot.scene("chat", "tok/s")
    tmux.press("C-b")
    shot.scene("blind", "A │ B")
