"""Reply: `python -m engine.reply` reads a ReplyRequest and prints the replies as a JSON list, or the error."""

import json
import sys
from pathlib import Path

import torch
import transformers

from engine.contract.bounds import as_json
from engine.contract.config import RunConfig
from engine.contract.messages import InputError
from engine.contract.requests import ReplyRequest, read_request
from engine.data.encoding import cut, encode
from engine.models import loading
from engine.models.network import packs
from engine.models.on_device import on_device
from engine.models.registry import family_of
from engine.process.heartbeat import end_with

LONGEST_PROMPT = 512
CPU = torch.device("cpu")


def replies(folder: str, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Greedy replies of the model in `folder`; raises InputError."""
    config = RunConfig(pretrained_model=folder, tokenizer=folder, mixed_precision="fp32")
    if not Path(folder).is_dir():
        raise InputError("reply_missing", path=folder)
    for number, prompt in enumerate(prompts, 1):
        if not prompt.isascii() and any("\ud800" <= character <= "\udfff" for character in prompt):
            raise InputError("prompt_not_text", number=number)
    tokenizer = loading.load_tokenizer_of(config)
    net = loading.load_model(config, tokenizer, packed=packs(CPU))
    net.eval()
    longest = min(LONGEST_PROMPT, family_of(net).positions(net).get("prompt", LONGEST_PROMPT))
    ids = [torch.tensor(cut(row, longest)) for row in encode(prompts, tokenizer)]
    found = on_device(net, config, CPU).network.replies(ids, max_new_tokens)
    return [str(tokenizer.decode(reply, skip_special_tokens=True)) for reply in found]


def main() -> int:
    """Answers the request on standard input; 2, and the error as JSON, if it cannot be used."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    asker, request = read_request(ReplyRequest, sys.stdin.read())
    end_with(asker)
    try:
        answered: object = replies(request.model, list(request.prompts), request.max_new_tokens)
        code = 0
    except InputError as error:
        answered, code = as_json(error.message), error.exit_code
    json.dump(answered, sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
