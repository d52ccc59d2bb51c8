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
SPEED = r"\d tok/s|\d 词元/秒"
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

    def settled(self, shown: str) -> bool:
        """Whether nothing is read or computed any more."""
        return not any(self.words(f"rows.{doing}") in shown for doing in ("reading", "weighing"))

    def count(self, path: Path) -> None:
        """Writes how many keys each scene took."""
        lines = ["| | keys |", "|---|---:|", *(f"| {name} | {keys} |" for name, keys in self.scenes)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def share_done(shown: str) -> bool:
    """Whether the bar of the whole run, the last of the second line, is past its middle."""
    shares = re.findall(r"[━─]+ +(\d+) %", shown.splitlines()[1])
    return bool(shares) and int(shares[-1]) >= 55


def replied(shown: str) -> bool:
    """Whether no reply of a comparison is still awaited."""
    return "│ … " not in shown


def film(tmux: Tmux, lang: Lang) -> None:
    """Makes the film in a language."""
    write_conversations(tmux.folder / "data.jsonl")
    tmux.open("--lang", lang)
    shot = Film(tmux, lang)
    begin(shot)
    train(shot)
    compare(shot)
    talk(shot)
    shot.count(tmux.kept / f"film-{lang}-keys.md")
    tmux.kill()


def begin(shot: Film) -> None:
    """From the file to a run that has begun, by enter alone."""
    tmux = shot.tmux
    shot.scene("here", "data.jsonl", "200")
    tmux.press("Enter")
    shot.scene("import", "198", "data/chat_train.parquet")
    tmux.press("Enter")
    tmux.wait(shot.words("import_screen.is_written"))
    tmux.press("Enter")
    shot.scene("next", "data/chat_train.parquet", "SmolLM2")
    tmux.press("Enter")
    shot.scene("models", "SmolLM2-135M-Instruct", "134.5")
    tmux.press("Enter")
    shot.scene("what-learns", "LoRA r 16", "chat-lora", "GB")
    tmux.press("Enter")
    shot.scene("ready", "chat-lora", f"✓ {shot.words('screen.all_good')}")
    tmux.press("Enter")


def train(shot: Film) -> None:
    """The run, the rows of a step, and the test."""
    tmux, finished = shot.tmux, f"✓ {shot.words('status.finished')}"
    shot.scene("run", RUN, until=share_done)
    shot.scene("finished", f"{RUN} · {finished}")
    tmux.press("3", "x", "S-Left", "S-Left")
    shot.scene("cursor", RUN, "lr")
    tmux.press("Enter")
    shot.scene("rows", "%", until=shot.settled)
    tmux.press("Escape", "Escape", "T")
    tmux.wait("-test-")
    shot.scene("tested", finished, "-test-")


def compare(shot: Film) -> None:
    """Another run like it with one setting changed, and both compared."""
    tmux, finished = shot.tmux, f"✓ {shot.words('status.finished')}"
    tmux.press("Escape")
    tmux.wait(f"{RUN} · {finished}")
    tmux.press("c")
    tmux.wait(shot.words("screen.ready"), f"✓ {shot.words('screen.all_good')}")
    tmux.press("e", "/")
    tmux.type_words("epochs")
    tmux.press("Enter", "C-u")
    tmux.type_words("1")
    shot.scene("setting", "epochs")
    tmux.press("Enter", "Escape", "Escape")
    tmux.wait(shot.words("screen.ready"), f"✓ {shot.words('screen.all_good')}")
    tmux.press("Enter")
    tmux.wait(f"{AGAIN} · {finished}")
    tmux.press("l")
    tmux.wait(AGAIN, RUN)
    tmux.press("Space", "Down", "Down", "Space")
    shot.scene("compared", AGAIN, "epochs")
    tmux.press("Tab")
    shot.scene("replies", AGAIN)


def talk(shot: Film) -> None:
    """A conversation with the model before and after, side by side, and a blind comparison."""
    tmux = shot.tmux
    tmux.press("i")
    tmux.wait("SmolLM2", RUN, until=lambda text: shot.words("chat.loading") not in text)
    tmux.say(QUESTION)
    shot.scene("chat", until=lambda text: len(re.findall(SPEED, text)) == 2)
    tmux.press("C-b")
    shot.scene("blind", "┌ A ", "┌ B ", until=replied)
    tmux.press("1")
