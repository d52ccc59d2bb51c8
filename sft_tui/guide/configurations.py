"""The configurations of the original scripts: the preset of each, and where their runs write what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from engine.contract.presets import built_in, preset
from engine.contract.texts import Lang, say, template

# The options of the scripts that choose a configuration.
CONFIGURATIONS = {
    "use_small_config": "sft-small",
    "use_fast_config": "sft-fast",
    "use_large_config": "pretrain-large",
}
STATE_DICT = "chat_small_t5.best.bin"
RULE = "=" * 80


def preset_of(job: str, switches: Mapping[str, bool], lang: Lang) -> str:
    """The preset that the switches select; raises UsageError if they contradict each other."""
    chosen = [switch for switch in CONFIGURATIONS if switches.get(switch)]
    if len(chosen) > 1:
        raise click.UsageError(say("guide.two", lang, one=chosen[0], other=chosen[1]))
    if not chosen:
        return "sft" if switches.get("is_finetune") else "pretrain"
    name = CONFIGURATIONS[chosen[0]]
    if built_in()[name].finetunes and not switches.get("is_finetune") and job == "train":
        raise click.UsageError(say("guide.finetuning", lang, switch=chosen[0]))
    if not built_in()[name].finetunes and switches.get("is_finetune"):
        raise click.UsageError(say("guide.pretraining", lang, switch=chosen[0]))
    return name


def banner(name: str, lang: Lang) -> str:
    """The line that says which configuration is used, in the guide's words."""
    known = preset(name)
    words = template(f"preset.{name}.note", lang)
    return f"{RULE}\n{say('guide.using', lang, original=known.original, summary=words or known.summary(lang))}\n{RULE}"


def state_dict_of(name: str, config: Mapping[str, Any]) -> str:
    """The path where later stages look for the best model of a run.

    Fine-tuning starts from what pretraining left in `model_save/`; the others read from the output folder.
    """
    base = preset(name)
    if not base.finetunes and config["output_dir"] == base.config.output_dir:
        return preset("sft").config.pretrained_model
    return str(Path(str(config["output_dir"])) / STATE_DICT)
