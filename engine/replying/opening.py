"""A conversation opened: the model of a folder loaded, with the form of prompts that it learned from."""

from dataclasses import replace
from pathlib import Path

import torch

from engine.contract.config import RunConfig
from engine.contract.conversing import Open, Opened
from engine.contract.messages import InputError
from engine.data.chat.settings import ChatSettings
from engine.data.chat.templates import ChatTemplate
from engine.models import loading
from engine.models.network import ends_of, packs
from engine.models.on_device import on_device
from engine.models.registry import family_for, family_of
from engine.replying.conversation import Conversation
from engine.replying.dialogue import Rendered, Transcript, require_text
from engine.replying.sampling import Chooser

LONGEST_PROMPT = 512  # tokens of prompts that a model learned with responses
LONGEST_CONTEXT = 1 << 20  # tokens that a model is given which does not say how many it can see
CPU = torch.device("cpu")


def opened(request: Open) -> tuple[Conversation, Opened]:
    """A conversation with the model in a folder; raises InputError."""
    folder = request.model
    if not Path(folder).is_dir():
        raise InputError("reply_missing", path=folder)
    require_text(request.system, 0)
    asked = RunConfig(pretrained_model=folder, tokenizer=folder)
    config = replace(asked, chat_template=request.chat_template, template_options=request.template_options)
    tokenizer = loading.load_tokenizer_of(config)
    rendered: Rendered | None = None
    if family_for(config).rows == "chat":
        template = ChatTemplate.of(tokenizer, config.chat_template, config.template_options)
        rendered = Rendered(template, ChatSettings.of(config))  # refused before gigabytes are read
    net = loading.load_model(config, tokenizer, packed=packs(CPU)).eval()
    net.requires_grad_(False)  # so that weights that come in bf16 are held in that alone
    family = family_of(net)
    network = on_device(net, replace(config, mixed_precision="fp32" if rendered is None else "auto"), CPU).network
    network.begin_step()
    context = 0 if rendered is None else getattr(net.config, "max_position_embeddings", None) or LONGEST_CONTEXT
    choose = Chooser(request.sampling)
    conversation = Conversation(
        network=network,
        tokenizer=tokenizer,
        dialogue=rendered or Transcript(tokenizer),
        stops=rendered.stops if rendered else frozenset(ends_of(net)),
        choose=choose,
        limit=min(family.positions(net).get("prompt", LONGEST_PROMPT), LONGEST_PROMPT),
        longest=request.max_new_tokens,
        context=context,
        system=request.system,
    )
    conversation.choose_by(choose, request.max_new_tokens)
    return conversation, Opened(family.name, family.rows, conversation.limit)
