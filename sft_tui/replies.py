"""The replies of a trained model, given by a process of the engine."""

import json
import subprocess

from engine.contract.bounds import read_as, read_error
from engine.contract.messages import InputError
from sft_tui.child_process import module_command

MODULE = "engine.reply"
TIMEOUT_SECONDS = 600


def replies(model: str, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Replies of the model in the folder `model`; raises InputError."""
    from engine.contract.requests import Replies, ReplyRequest, request_line  # which listing runs must not load

    result = subprocess.run(
        module_command(MODULE),
        input=request_line(ReplyRequest(model, tuple(prompts), max_new_tokens)),
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    try:
        answered = json.loads(result.stdout)
        if result.returncode == 0:
            return read_as(Replies, answered)
        error = read_error(answered)
    except (ValueError, TypeError, OverflowError, RecursionError):
        error = InputError("engine_failed", what=MODULE, code=result.returncode)
    raise error
