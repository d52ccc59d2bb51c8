"""Checks of the tokenizer, alone and together with the model, and what fixes them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from engine.contract.config import RunConfig
from engine.contract.facts import DataFacts, FileFacts, TokenizerFacts
from engine.contract.inputs import has_tokenizer, model_folder, tokenizer_folder
from engine.contract.template_options import option_parts
from engine.contract.texts import Phrase
from sft_tui.preflight import missing
from sft_tui.preflight.data import percent
from sft_tui.preflight.declaration import Actions, Advice, CheckedRun, Group, Seen
from sft_tui.preflight.finding import Finding
from sft_tui.preflight.fix import DEFAULTS, Edit


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer that was read, and what it makes of the training rows."""

    config: RunConfig
    facts: TokenizerFacts
    data: DataFacts

    @property
    def unknown(self) -> float:
        """The share of unknown tokens in the training rows."""
        train = self.data.train_file
        tokens = train.tokens if isinstance(train, FileFacts) else None
        return tokens.unknown_tokens / max(1, tokens.tokens) if tokens else 0.0


TOKENIZER = Group[Tokenizer]("Tokenizer", "tokenizer")


# --- remedies


def another(_finding: Finding, run: CheckedRun) -> Actions | Advice:
    """Use the tokenizer in the model's folder, else train a new one, for a new model if need be."""
    config = run.config
    if not config.tokenizer and "pretrained_model" in run.broken:
        return Advice(Phrase.of("advice.with_the_model"))
    own, named = model_folder(config), tokenizer_folder(config)
    if has_tokenizer(own) and Path(own).resolve() != Path(named).resolve():
        return (run.check(tokenizer=""),)
    new = f"{(named or DEFAULTS.tokenizer).rstrip('/')}_new"
    train = missing.new_tokenizer(config, new)
    if not config.pretrained_model:
        return train, run.check(tokenizer=new)
    renewed = replace(config, tokenizer=new)
    return train, *missing.new_model(renewed, lambda **more: run.check(tokenizer=new, **more))


def chatml(_finding: Finding, run: CheckedRun) -> Actions:
    """Use the template that is built in."""
    return (run.check(chat_template="chatml"),)


def without_unused(finding: Finding, run: CheckedRun) -> Actions:
    """Leave them out."""
    unused = {str(name) for name in finding.args["names"]}
    kept = [part for part in option_parts(run.config.template_options) if part.partition("=")[0].strip() not in unused]
    return (run.check(template_options=",".join(kept)),)


def another_template(_finding: Finding, run: CheckedRun) -> Actions:
    """Use the tokenizer's own template, or else the one that is built in."""
    return (run.check(chat_template="" if run.config.chat_template else "chatml"),)


def name_token(finding: Finding, run: CheckedRun) -> Actions | Advice:
    """Use the model's own tokenizer, or set the token in one of the two configurations."""
    own, named = model_folder(run.config), tokenizer_folder(run.config)
    if has_tokenizer(own) and Path(own).resolve() != Path(named).resolve():
        return (run.check(tokenizer=""),)
    token = str(finding.args["token"])
    if likely := finding.args.get("likely"):
        return (Edit(str(Path(named) / "tokenizer_config.json"), f"{token}_token", str(likely)),)
    if finding.code == "special_token_mismatch" and Path(run.config.pretrained_model).is_dir():
        number = int(finding.args["tokenizer_id"])
        return (Edit(str(Path(run.config.pretrained_model) / "config.json"), f"{token}_token_id", number),)
    return another(finding, run)


# --- checks

TOKENIZER.error("tokenizer_unnamed", "Neither the settings nor the model name one.", remedy=another)
TOKENIZER.error("tokenizer_bad", "It cannot be loaded, or its patterns never finish.", remedy=another)
TOKENIZER.error("tokenizer_died", "It ends the process that uses it.", remedy=another)
TOKENIZER.error("tokenizer_token_missing", "It has no pad or no end token.", remedy=name_token)
TOKENIZER.error("tokenizer_differs", "Its vocabulary differs from the one in the model's folder.", remedy=another)
TOKENIZER.error("chat_template_missing", "It has no chat template.", subject="chat_template", remedy=chatml)
TOKENIZER.error(
    "chat_template_bad", "Its chat template is not valid, or never ends.", subject="chat_template",
    remedy=another_template,
)  # fmt: skip
TOKENIZER.error("template_options_bad", "The options of its chat template are not valid.", subject="template_options")
TOKENIZER.error("vocabulary_mismatch", "It has more tokens than the model has room for.", remedy=another)
TOKENIZER.error("special_token_mismatch", "Its end token is not the model's.", remedy=name_token)


@TOKENIZER.check("template_options_unused", "warning", subject="template_options", remedy=without_unused)
def _template_options_unused(tokenizer: Tokenizer) -> Iterator[Seen]:
    """Options do not occur in the chat template."""
    if unused := tokenizer.facts.unused_options:
        yield Seen({"names": unused, "count": len(unused)})


@TOKENIZER.check("tokenizer", "ok")
def _tokenizer(tokenizer: Tokenizer) -> Iterator[Seen]:
    """Its size, and the share of unknown tokens."""
    path = tokenizer_folder(tokenizer.config)
    yield Seen({"path": path, "tokens": tokenizer.facts.tokens, "unknown": percent(tokenizer.unknown)})
