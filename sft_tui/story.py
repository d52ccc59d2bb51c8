"""The demo, told from beginning to end, and the replies of a trained model."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.contract.locks import holder_of, is_locked
from engine.contract.messages import InputError, Lang
from engine.contract.presets import preset
from engine.contract.rundir import OutputDir, RunRecord
from sft_tui import importing, starting
from sft_tui.child import module_command
from sft_tui.locale import say
from sft_tui.output import echo
from sft_tui.text import duration, safe

PROMPTS = ("你好", "什么是ai", "你吃什么", "What is AI?", "Tell me a joke")
HALVES = ("demo-pretrain", "demo")
REPLY_SECONDS = 600
VOCABULARY = 4000


def tell(logs: Path, lang: Lang, start: Callable[..., None]) -> None:
    """Data and tokenizer, pretraining, fine-tuning, and replies before and after; an unfinished demo goes on."""
    began = time.monotonic()
    config = preset("demo").config
    echo(say("demo_data", lang), err=True)
    prepare()
    for name in HALVES:
        owner = _owner(name)
        start(name, {}, job="train", logs=logs, resume=bool(owner) and not owner.get("finished"))
        if not is_done(name):
            return  # stopped by its user, who was told how to go on
    before, after = config.pretrained_model, str(Path(config.output_dir) / "best")
    answers = [replies(model, list(PROMPTS), 40) for model in (before, after)]
    echo("\n" + say("demo_replies", lang))
    for prompt, first, second in zip(PROMPTS, *answers, strict=True):
        echo(prompt)
        echo(say("demo_before", lang, text=safe(first, 200)))
        echo(say("demo_after", lang, text=safe(second, 200)))
    echo("\n" + say("demo_done", lang, time=duration(time.monotonic() - began), model=after), err=True)


def prepare() -> None:
    """Writes the rows of both halves, and their tokenizer unless it is there; raises InputError."""
    first, config = (preset(name).config for name in HALVES)
    importing.bring_in([], task="demo", train=config.train_file, valid=config.validation_file, overwrite=True)
    for rows, texts in ((config.train_file, first.train_file), (config.validation_file, first.validation_file)):
        importing.bring_in([rows], task="demo-texts", train=texts, overwrite=True)
    if not Path(config.tokenizer).is_dir():
        importing.train_tokenizer([config.train_file, config.validation_file], config.tokenizer, VOCABULARY)


def next_record(name: str) -> RunRecord | None:
    """What to start for a half of the demo: from its beginning, or on from where it was left; None where it is done."""
    if is_done(name):
        return None
    return starting.plan_run(name, {}, resume=bool(_owner(name)))


def running(name: str) -> str:
    """The run that trains a half of the demo at this moment; empty where none does."""
    folder = Path(preset(name).config.output_dir)
    place = holder_of(folder).get("run_dir") if is_locked(folder) else None
    return Path(place).name if isinstance(place, str) else ""


def is_done(name: str) -> bool:
    """Whether a half of the demo has come to its end."""
    return bool(_owner(name).get("finished"))


def _owner(name: str) -> dict[str, Any]:
    return OutputDir(Path(preset(name).config.output_dir)).owner()


def replies(model: str, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Replies of the model in the folder `model`; raises InputError."""
    asked = json.dumps({"model": model, "prompts": prompts, "max_new_tokens": max_new_tokens})
    answered: list[str] = json.loads(_engine(["engine.reply"], asked))
    return answered


def _engine(arguments: list[str], given: str = "") -> str:
    """Runs a module of the engine; its standard output. Raises InputError with what the module said."""
    result = subprocess.run(
        module_command(*arguments),
        input=given,
        stdout=subprocess.PIPE,
        text=True,
        timeout=REPLY_SECONDS,
        check=False,
    )
    if result.returncode == 0:
        return result.stdout
    try:
        said: dict[str, Any] = json.loads(result.stdout)
        error = InputError(said["code"], **said["args"])
    except (ValueError, KeyError, TypeError):
        error = InputError("engine_failed", what=arguments[0], code=result.returncode)
    raise error
