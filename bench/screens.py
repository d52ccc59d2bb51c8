"""The screens in the docs: `python -m bench.screens FOLDER` walks through the product in tmux, saving what it shows.

The film (`film.py`) goes from a file of conversations to a chat with the model trained on it, in both languages. The
other stories kill things: a demo from random weights is left, its tmux server killed, attached, stopped, resumed, and
compared; a chat model is trained by commands from 500 conversations, killed by kill -9, resumed, and talked to.
Each screen is saved as plain text, some as pictures too.
"""

import itertools
import json
import random
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.film import LARGE, SMALL, film
from bench.tmux import Tmux
from engine.data import demo_corpus
from sft_tui import demo_model

CONVERSATIONS, MOST_EXCHANGES = 500, 4
SYSTEM = "You answer briefly."
# Short replies to few rows, so that the walk is about the training.
SHORT = "--epochs 1 --bleu_rows 16 --max_new_tokens 48 --save_steps 5"


def half_done(shown: str) -> bool:
    """Whether the bar of the run is past its middle."""
    share = re.search(r"run [━─]+ +(\d+) %", shown)
    return share is not None and int(share[1]) >= 55


def walk(tmux: Tmux) -> None:
    """Walks through the whole demo."""
    tmux.open()
    tmux.keep("1-here", "Start the demo")
    tmux.press("n")
    tmux.wait("Ready? demo", "✓ ready")
    tmux.press("Down", "Down")
    tmux.wait("Ready? demo-t5", "✓ ready")
    tmux.press("Enter")
    tmux.keep("2-run", "demo-t5-pretrain-1 · running", "Samples · ", until=half_done, picture=True)
    tmux.press("q")
    tmux.kill()
    tmux.open("attach")
    tmux.keep("3-opened-again", "demo-t5-pretrain-1 · running")
    tmux.press("s")
    tmux.keep("4-asks", "y/n")
    tmux.press("y")
    tmux.keep("5-stopped", "! stopped", "saved")
    tmux.press("r")
    tmux.keep("6-resumed", "demo-t5-pretrain-1 · running")
    tmux.keep(
        "7-fine-tuned", "demo-t5-1 · ✓ finished"
    )  # a screen that only watches follows the demo into its second half
    tmux.press("l")
    tmux.wait("demo-t5-pretrain-1")
    tmux.press("Space", "Down", "Space")
    tmux.keep("8-compared", "What differs", "! learn_rate")
    tmux.press("?")
    tmux.keep("9-help", "Keys")
    tmux.kill()


def small(tmux: Tmux) -> None:
    """The same runs in Chinese on a small terminal."""
    tmux.open("--lang", "zh")
    tmux.wait("demo-t5-1")
    tmux.press("n")
    tmux.keep("zh-80x24-launch", "✗ 4")
    tmux.press("l")
    tmux.wait("demo-t5-1")
    tmux.press("Enter")
    tmux.keep("zh-80x24-run", "demo-t5-1 · ✓ 已完成", picture=True)
    tmux.kill()


def write_conversations(path: Path) -> None:
    """Writes conversations of one to four exchanges in ShareGPT's form, each third with a system text."""
    chance, pairs = random.Random(0), demo_corpus.pairs(("english",))
    found = []
    for number in range(CONVERSATIONS):
        exchanges = chance.sample(pairs, chance.randint(1, MOST_EXCHANGES))
        turns = [{"from": "system", "value": SYSTEM}] if number % 3 == 0 else []
        for turn in itertools.chain.from_iterable(exchanges):
            turns.append({"from": "gpt" if len(turns) % 2 == (number % 3 != 0) else "human", "value": turn})
        found.append({"id": number, "conversations": turns})
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1), encoding="utf-8")


def chat(tmux: Tmux) -> None:
    """Trains a chat model on conversations, from a file to a reply, with everything killed on the way."""
    model = demo_model.obtain()
    write_conversations(tmux.folder / "chats.json")
    (tmux.folder / "models").mkdir(exist_ok=True)
    (tmux.folder / "models" / demo_model.NAME).symlink_to(model)
    tmux.shell()
    tmux.type("sft-tui data import chats.json --train data/chat_train.parquet --valid data/chat_valid.parquet")
    tmux.keep("chat-1-import", "data/chat_valid.parquet", until=prompted)
    tmux.type("sft-tui data show data/chat_train.parquet --row 3 --preset chat-lora")
    tmux.keep("chat-2-row", "<|im_end|>", until=prompted)
    tmux.type(f"sft-tui check chat-lora {SHORT}")
    tmux.keep("chat-3-check", "LoRA r 16", "Start it", until=prompted)
    tmux.type(f"sft-tui rehearse chat-lora {SHORT}")
    tmux.keep("chat-4-rehearsal", "micro-batches", "Start it", until=prompted)
    tmux.type(f"sft-tui run chat-lora {SHORT}")
    tmux.keep("chat-5-run", "chat-lora-1 · running", until=half_done, picture=True)
    kill_all_of(tmux.folder)
    tmux.keep("chat-6-killed", "chat-lora-1 · ✗")
    tmux.press("r")
    tmux.wait("chat-lora-1 · running")
    tmux.keep("chat-7-resumed", "repeated")
    tmux.keep("chat-8-finished", "chat-lora-1 · ✓ finished")
    tmux.press("q")
    tmux.type("sft-tui reply --run chat-lora-1")
    tmux.wait(until=asks)
    tmux.say("My printer is not printing.")
    tmux.wait("printing.", until=asks)
    tmux.say("And what is the capital of France?")
    tmux.keep("chat-9-talk", "France", until=asks)
    tmux.kill()


def asks(shown: str) -> bool:
    """Whether a conversation waits for what to say."""
    return shown.rstrip().endswith("\n>")


def prompted(shown: str) -> bool:
    """Whether the shell waits for a command."""
    return shown.rstrip().endswith("$")


def kill_all_of(folder: Path) -> None:
    """Kills the trainer and its supervisor, as nothing can be prepared for: kill -9."""
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if Path(process.cwd()) == folder and ("engine.train" in line or "supervisor" in line):
                process.send_signal(signal.SIGKILL)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


STORIES: dict[str, tuple[tuple[int, int], Callable[[Tmux], None]]] = {
    "film-en": (LARGE, lambda tmux: film(tmux, "en")),
    "film-zh": (LARGE, lambda tmux: film(tmux, "zh")),
    "demo": (LARGE, walk),
    "small": (SMALL, small),
    "chat": (LARGE, chat),
}
OF_ONE_FOLDER = ("demo", "small")  # the second shows what the first has left


def main(kept: Path, *names: str) -> int:
    """Walks through the stories of these names, or all."""
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for one in names or STORIES:
            size, story = STORIES[one]
            folder = Path(name) / (OF_ONE_FOLDER[0] if one in OF_ONE_FOLDER else one) / "train"
            folder.mkdir(parents=True, exist_ok=True)
            tmux = Tmux(folder, kept.absolute(), size)
            try:
                story(tmux)
            finally:
                tmux.kill()
                kill_all_of(tmux.folder)  # of a story that broke off: a run does not end with its terminal
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
