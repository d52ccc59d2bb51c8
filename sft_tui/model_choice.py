"""What of a model would learn: the ways to train it, the usual one first, and the run that each stands for."""

import re
from collections.abc import Mapping
from typing import Any

from engine.contract.config import names_in
from engine.contract.facts import TokenizerFacts
from engine.contract.model_reports import ShownModel, TrainingNeed
from engine.contract.presets import preset
from engine.contract.texts import Lang, named, say, short_count
from sft_tui.text import safe, size

FIRST_LAYERS = re.compile(r"layers\.0-(\d{1,6})")
ORDER = {"causal": ("lora", "whole", "frozen")}
USUAL_ORDER = ("frozen", "whole", "lora")


def ways(found: ShownModel) -> list[TrainingNeed]:
    """The ways to train a model, the usual one of its family first."""
    order = ORDER.get(found.model.kind, USUAL_ORDER)
    return sorted(found.needs, key=lambda need: order.index(need.way) if need.way in order else len(order))


def way_words(need: TrainingNeed, found: ShownModel, free: int, lang: Lang) -> tuple[str, str]:
    """A way of training in a few words, and what it learns and takes; `free` bytes of memory are free."""
    name = say(f"way.{need.way}", lang, frozen=frozen_words(str(need.settings.get("freeze", "")), lang))
    counts = {"trained": short_count(need.trained), "parameters": short_count(found.model.sizes.parameters)}
    detail = say("way.learns", lang, **counts)
    if need.bytes:
        fits = "way.fits" if need.bytes <= free else "way.too_large"
        detail += say("shown.joined", lang) + say(fits, lang, memory=size(need.bytes), free=size(free))
    return name, detail


def frozen_words(freeze: str, lang: Lang) -> str:
    """The parts that do not learn, as a person names them; a part without a name of its own as it is written."""
    return say("frozen.joined", lang).join(_part_words(part, lang) for part in names_in(freeze))


def _part_words(part: str, lang: Lang) -> str:
    first_layers = FIRST_LAYERS.fullmatch(part)
    if first_layers:
        return say("frozen.layers", lang, count=int(first_layers[1]) + 1)
    return safe(named("frozen", part, lang), 80)


def settings_of(need: TrainingNeed, found: ShownModel, path: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The settings over those of the way's preset, for a run with the model on some files."""
    usual = preset(need.preset).config
    own = dict(need.settings)
    if not isinstance(found.tokenizer, TokenizerFacts):
        own.pop("tokenizer", None)  # the model has none: the preset's
    wanted = {**own, "pretrained_model": path, **files}
    return {name: value for name, value in wanted.items() if value != getattr(usual, name)}
