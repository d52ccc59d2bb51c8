"""A conversation opened: the model of a folder loaded, with the form of prompts that it learned from."""

from pathlib import Path

import torch

from engine.contract.config import RunConfig
from engine.contract.conversing import Open, Opened
from engine.contract.messages import InputError
from engine.models import loading
from engine.models.network import ends_of, packs
from engine.models.on_device import on_device
from engine.models.registry import family_of
from engine.replying.conversation import Conversation
from engine.replying.dialogue import Transcript, require_text
from engine.replying.sampling import Chooser

LONGEST_PROMPT = 512  # tokens of prompts that a model learned with responses
CPU = torch.device("cpu")


def opened(request: Open) -> tuple[Conversation, Opened]:
    """A conversation with the model in a folder; raises InputError."""
    folder = request.model
    if not Path(folder).is_dir():
        raise InputError("reply_missing", path=folder)
    require_text(request.system, 0)
    config = RunConfig(pretrained_model=folder, tokenizer=folder, mixed_precision="fp32")
    tokenizer = loading.load_tokenizer_of(config)
    net = loading.load_model(config, tokenizer, packed=packs(CPU))
    net.eval()
    family = family_of(net)
    network = on_device(net, config, CPU).network
    network.begin_step()
    limit = min(LONGEST_PROMPT, family.positions(net).get("prompt", LONGEST_PROMPT))
    stops, choose = frozenset(ends_of(net)), Chooser(request.sampling)
    conversation = Conversation(
        network, tokenizer, Transcript(tokenizer), stops, choose, limit, request.max_new_tokens, request.system
    )
    return conversation, Opened(family.name, "pairs", limit)
