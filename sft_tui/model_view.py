"""What a model is and what training it takes, as text."""

import shlex
from collections.abc import Iterator

from engine.contract.facts import TokenizerFacts
from engine.contract.messages import Message
from engine.contract.model_reports import ShownModel, TemplateFacts, TrainingNeed
from engine.contract.presets import preset
from engine.contract.requests import ShowRequest
from engine.contract.texts import Lang, say
from sft_tui.model_choice import frozen_words
from sft_tui.preflight import ask_engine
from sft_tui.preflight.fix import Start, as_path
from sft_tui.text import cut, pad, safe, size, width
from sft_tui.wrapping import wrap

COLUMNS = 80
MOST_EXAMPLE = 12  # lines of the rendered conversation


def shown(path: str) -> ShownModel:
    """The facts about the model at a path; raises InputError."""
    try:
        return ask_engine.ask(ShowRequest(path), ShownModel)
    except ask_engine.InspectorDied as died:
        raise died.error(preset("sft-small").config, path) from None


def lines(found: ShownModel, path: str, free: int, lang: Lang) -> Iterator[str]:
    """The model line by line, each within 80 columns; `free` bytes of memory are free on this machine."""
    yield from about_lines(found, lang)
    yield ""
    yield say("shown.needs", lang, tokens=found.micro_batch_tokens)
    for need in found.needs:
        yield from (f"  {line}" for line in wrap(_need(need, free, lang), COLUMNS - 2))
        start = Start(need.preset, {"pretrained_model": as_path(path), **need.settings})
        yield f"    {safe(shlex.join(start.argv), 500)}"


def about_lines(found: ShownModel, lang: Lang, columns: int = COLUMNS) -> Iterator[str]:
    """What the model is, and how its chat template writes a conversation, within a number of columns."""
    yield from _table(list(_about(found, lang)), lang, columns)
    if isinstance(found.template, TemplateFacts):
        yield ""
        yield say("shown.example", lang)
        for line in found.template.example.splitlines()[:MOST_EXAMPLE]:
            yield cut(f"  {safe(line)}", columns)


def _table(rows: list[tuple[str, str]], lang: Lang, columns: int) -> Iterator[str]:
    """Names and values in two columns; what does not fit continues below."""
    column = max(width(say(f"shown.{name}", lang)) for name, _ in rows) + 2
    for name, value in rows:
        first, *rest = wrap(value, max(10, columns - column))
        yield pad(say(f"shown.{name}", lang), column) + first
        for line in rest:
            yield " " * column + line


def _about(found: ShownModel, lang: Lang) -> Iterator[tuple[str, str]]:
    model = found.model
    yield "name", safe(model.title or model.name)
    yield "family", say("shown.family_is", lang, kind=safe(model.kind), type=safe(model.family))
    yield from _shape(found, lang)
    weights = {
        "parameters": model.sizes.parameters,
        "dtype": safe(model.dtype) or "-",
        "size": size(model.weights_bytes),
    }
    yield "weights", say("shown.weights_are", lang, **weights)
    yield "tokenizer", _tokenizer(found.tokenizer, lang)
    if found.template is not None:
        yield "template", _template(found.template, lang)
    if found.licence:
        yield "licence", safe(found.licence)
    if found.source:
        yield "source", safe(" @ ".join(filter(None, (found.source, found.revision[:12]))))


def _shape(found: ShownModel, lang: Lang) -> Iterator[tuple[str, str]]:
    if (decoder := found.model.decoder) is not None:
        context = f"{decoder.context:,}" if decoder.context else "-"
        counts = {
            "layers": decoder.layers,
            "width": decoder.width,
            "heads": decoder.heads,
            "kv_heads": decoder.kv_heads,
        }
        yield "shape", say("shown.decoder", lang, **counts, context=context)
        if decoder.window:
            yield "window", say("shown.window_is", lang, window=decoder.window, layers=decoder.sliding_layers)
        return
    said = found.model.settings
    known = {name: said[name] for name in ("d_model", "num_layers", "num_decoder_layers", "num_heads") if name in said}
    if known:
        yield "shape", ", ".join(f"{name} {value}" for name, value in known.items())


def _tokenizer(about: Message | TokenizerFacts | None, lang: Lang) -> str:
    if about is None:
        return say("shown.no_tokenizer", lang)
    if isinstance(about, Message):
        return safe(about.text(lang))
    return say("shown.tokenizer_is", lang, tokens=about.tokens)


def _template(about: Message | TemplateFacts, lang: Lang) -> str:
    if isinstance(about, Message):
        return safe(about.text(lang))
    said = [
        say("shown.template_kind", lang, kind=safe(about.kind)) if about.kind else say("shown.template_other", lang),
        say("shown.stop", lang, stop=safe(about.stop)) if about.stop else say("shown.no_stop", lang),
        say("shown.one_row" if about.one_row else "shown.rows_apart", lang),
        say("shown.keeps_thoughts" if about.keeps_thoughts else "shown.drops_thoughts", lang),
    ]
    return say("shown.joined", lang).join(said)


def _need(need: TrainingNeed, free: int, lang: Lang) -> str:
    """What learns in a way of training, in which memory, and whether this machine has it free."""
    counts = {"trained": need.trained, "memory": size(need.bytes) if need.bytes else "-"}
    what = say(f"shown.way.{need.way}", lang, **counts, frozen=frozen_words(str(need.settings.get("freeze", "")), lang))
    if not need.bytes:
        return what
    return what + say("shown.fits" if need.bytes <= free else "shown.too_large", lang, free=size(free))
