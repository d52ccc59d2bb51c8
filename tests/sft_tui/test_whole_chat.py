"""Two models side by side, each in its own process of the engine: the same replies as when they are asked alone."""

import shutil
import time
from pathlib import Path

import psutil
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from engine.contract.conversing import Open, Replied
from engine.replying.opening import opened
from sft_tui.chat_model import ChatModel, Settings
from tests.engine.data.chat.kinds import KINDS
from tests.engine.models.causal.small import model
from tests.sft_tui.test_chat_model import until

SAID = ("你好", "再见")
HOW = Settings(max_new_tokens=12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Path) -> tuple[str, str]:
    """A small causal model whose template is its own, and a small T5, both with random weights."""
    causal, t5 = tmp_path_factory.mktemp("causal"), tmp_path_factory.mktemp("t5")
    tokenizer = KINDS["qwen2.5"].template().tokenizer
    tokenizer.save_pretrained(causal)
    net = model("qwen2", vocab_size=300, max_position_embeddings=128)
    net.config.eos_token_id = net.generation_config.eos_token_id = tokenizer.eos_token_id
    net.save_pretrained(causal)
    torch.manual_seed(1)
    shape = T5Config(vocab_size=256, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    shape.decoder_start_token_id, shape.pad_token_id, shape.eos_token_id = 0, 0, 1
    small = T5ForConditionalGeneration(shape)
    small.save_pretrained(t5)
    shutil.copytree(tiny_tokenizer, t5, dirs_exist_ok=True)
    return str(causal), str(t5)


def asked_alone(folder: str) -> list[str]:
    """The replies of a model in one conversation, without streaming."""
    conversation, _ = opened(Open(folder, max_new_tokens=HOW.max_new_tokens))
    found = []
    for words in SAID:
        *_, replied = conversation.say(words)
        assert isinstance(replied, Replied)
        found.append(replied.text)
    return found


@pytest.mark.slow
def test_models_side_by_side_reply_as_they_do_alone(folders: tuple[str, str]) -> None:
    first = ChatModel(folders[0], "base", HOW)
    second = ChatModel(folders[1], "tuned", HOW, first)
    both, streamed = (first, second), dict[str, set[str]]()
    for one in both:
        one.start()
    for words in SAID:
        for one in both:
            one.say(words)
        while any(one.state.busy for one in both):
            for one in both:
                streamed.setdefault(one.folder + words, set()).add(one.state.turns[-1].reply)
            time.sleep(0.001)
    for one in both:
        assert [turn.reply for turn in one.state.turns] == asked_alone(one.folder), one.state.fault
        for words, turn in zip(SAID, one.state.turns, strict=True):
            assert all(turn.reply.startswith(part.rstrip("\ufffd")) for part in streamed[one.folder + words])
    processes = [psutil.Process(one.pid) for one in both]
    for one in both:
        one.close()
    until(lambda: not any(process.is_running() for process in processes))
