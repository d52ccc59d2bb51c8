"""What of a model would learn: the ways to train it, the usual one first, and the run that each stands for."""

from collections.abc import Mapping
from typing import Any

from engine.contract.facts import TokenizerFacts
from engine.contract.model_reports import ShownModel, TrainingNeed
from engine.contract.presets import preset
from engine.contract.texts import Lang, say, short_count
from sft_tui.text import safe, size

ORDER = {"causal": ("lora", "whole", "frozen")}
USUAL_ORDER = ("frozen", "whole", "lora")


def ways(found: ShownModel) -> list[TrainingNeed]:
    """The ways to train a model, the usual one of its family first."""
    order = ORDER.get(found.model.kind, USUAL_ORDER)
    return sorted(found.needs, key=lambda need: order.index(need.way) if need.way in order else len(order))


def way_words(need: TrainingNeed, found: ShownModel, free: int, lang: Lang) -> tuple[str, str]:
    """A way of training in a few words, and what it learns and takes; `free` bytes of memory are free."""
    name = say(f"way.{need.way}", lang, frozen=safe(str(need.settings.get("freeze", "")), 80))
    counts = {"trained": short_count(need.trained), "parameters": short_count(found.model.sizes.parameters)}
    detail = say("way.learns", lang, **counts)
    if need.bytes:
        fits = "way.fits" if need.bytes <= free else "way.too_large"
        detail += say("shown.joined", lang) + say(fits, lang, memory=size(need.bytes), free=size(free))
    return name, detail


def settings_of(need: TrainingNeed, found: ShownModel, path: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The settings over those of the way's preset, for a run with the model on some files."""
    usual = preset(need.preset).config
    own = dict(need.settings)
    if not isinstance(found.tokenizer, TokenizerFacts):
        own.pop("tokenizer", None)  # the model has none: the preset's
    wanted = {**own, "pretrained_model": path, **files}
    return {name: value for name, value in wanted.items() if value != getattr(usual, name)}
