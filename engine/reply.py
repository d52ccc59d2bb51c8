"""Reply: `python -m engine.reply` holds a conversation with a model, as `engine.contract.conversing` describes."""

import os
import sys
import time
from collections.abc import Iterator

import transformers

from engine.contract.conversing import (
    Changed,
    Choice,
    History,
    Open,
    Refused,
    Reset,
    Say,
    Spoken,
    System,
    Undo,
    line_of,
)
from engine.contract.messages import InputError
from engine.process.attempt import leave
from engine.replying.conversation import Conversation
from engine.replying.dialogue import require_text
from engine.replying.opening import opened
from engine.replying.requests import Requests
from engine.replying.sampling import Chooser

PATIENCE_SECONDS = 1.0


def end_soon() -> None:
    """Ends this process if it is still busy some time after its input has ended, since nobody listens any more.

    The kernel's signal for the death of a parent would come as soon as the thread ends that started this process.
    """
    time.sleep(PATIENCE_SECONDS)
    os._exit(1)


def answers(conversation: Conversation, request: Spoken, requests: Requests) -> Iterator[Spoken]:
    """What a request is answered by."""
    try:
        match request:
            case Say():
                yield from conversation.say(request.text, requests.stopped)
                return
            case System():
                require_text(request.text, 0)
                conversation.system = request.text
            case Undo():
                conversation.undo()
            case Reset():
                conversation.turns.clear()
            case History():
                conversation.take(request.turns)
            case Choice():
                conversation.choose_by(Chooser(request.sampling), request.max_new_tokens)
        yield Changed(len(conversation.turns) // 2)
    except InputError as error:
        yield Refused(error.message)


def main() -> int:
    """Holds the conversation until its input ends; 2, and the error as the answer, if the model cannot be used."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    requests = Requests(sys.stdin.buffer, end_soon)
    asked = iter(requests)
    request = next(asked, None)
    if not isinstance(request, Open):
        return 2
    with open(os.dup(1), "wb", buffering=0) as out:
        os.dup2(2, 1)  # what libraries print must not look like a line of ours
        try:
            conversation, answer = opened(request)
        except InputError as error:
            out.write(line_of(Refused(error.message, fatal=True)))
            return error.exit_code
        out.write(line_of(answer))
        for request in asked:
            for spoken in answers(conversation, request, requests):
                out.write(line_of(spoken))
    return 0


if __name__ == "__main__":
    leave(main())  # Python's own exit would abort: a thread may be waiting for a line
