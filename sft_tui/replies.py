"""The replies of a trained model, given by a process of the engine."""

import json
import os
import subprocess

from engine.contract.bounds import read_error
from engine.contract.messages import InputError
from sft_tui.child_process import module_command

MODULE = "engine.reply"
TIMEOUT_SECONDS = 600


def replies(model: str, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Replies of the model in the folder `model`; raises InputError."""
    asked = {"asker": os.getpid(), "model": model, "prompts": prompts, "max_new_tokens": max_new_tokens}
    result = subprocess.run(
        module_command(MODULE),
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if result.returncode == 0:
        answered: list[str] = json.loads(result.stdout)
        return answered
    try:
        error = read_error(json.loads(result.stdout))
    except (ValueError, TypeError, OverflowError):
        error = InputError("engine_failed", what=MODULE, code=result.returncode)
    raise error
