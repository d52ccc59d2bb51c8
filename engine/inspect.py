"""Inspect: `python -m engine.inspect` reports the contents of data files and a model, without torch and within limits.

Runs in a process of its own because its input is untrusted: a file that makes a reader crash, hang or eat memory ends
only this process. A request is one line of JSON on standard input, the answer is lines of JSON on standard
output: what is being read, how far it is, and finally the facts. Rows are tokenized into the token store that the
training uses, so that nothing is read twice.
"""

import sys
from pathlib import Path

from engine.contract import config as settings
from engine.contract.bounds import as_json
from engine.contract.messages import InputError
from engine.contract.requests import (
    DataGlanceRequest,
    DataRequest,
    DigestsRequest,
    FetchRequest,
    GgufRequest,
    ImportRequest,
    MemoryRequest,
    ModelGlanceRequest,
    ModelRequest,
    PromptsRequest,
    Request,
    RowRequest,
    ShowRequest,
    TokenizerRequest,
    read_task,
)
from engine.inspecting.answer_lines import send
from engine.inspecting.data_facts import data_facts
from engine.inspecting.glances import glance
from engine.inspecting.held_out_prompts import held_out_prompts
from engine.inspecting.limits import limit_this_process
from engine.inspecting.made_files import imported, new_tokenizer
from engine.inspecting.made_models import converted, fetched
from engine.inspecting.model_facts import memory_facts, model_facts
from engine.inspecting.row_facts import digests_of, row_facts
from engine.inspecting.shown_model import shown_model
from engine.process.heartbeat import end_with


def answer(request: Request) -> object:
    """The requested facts; raises InputError."""
    match request:
        case DataRequest() | RowRequest() | PromptsRequest() | DigestsRequest():
            return _of_rows(request)
        case ModelRequest():
            return model_facts(settings.from_json(request.config))
        case MemoryRequest():
            return memory_facts(request)
        case ImportRequest():
            return imported(request)
        case TokenizerRequest():
            return new_tokenizer(request)
        case FetchRequest():
            return fetched(request)
        case GgufRequest():
            return converted(request)
        case ShowRequest():
            return shown_model(request)
        case DataGlanceRequest() | ModelGlanceRequest():
            return glance(request)
    raise TypeError(f"nobody answers {request.task}")


def _of_rows(request: DataRequest | RowRequest | PromptsRequest | DigestsRequest) -> object:
    """The facts about data files."""
    match request:
        case DigestsRequest():
            return digests_of(Path(request.path), request.rows)
        case RowRequest():
            return row_facts(settings.from_json(request.config), request.setting, request.row)
        case PromptsRequest():
            return held_out_prompts(settings.from_json(request.config), request.setting, request.count, request.seed)
    config = settings.from_json(request.config)
    return data_facts(config, request.settings, request.processes, tokenize=request.tokenize)


def main() -> int:
    """Answers requests, one to a line of standard input; 2 if one cannot be answered because of its input."""
    code, begun = 0, False
    for asker, request in map(read_task, sys.stdin.buffer):
        if not begun:
            begun = True
            end_with(asker)
            limit_this_process()
        try:
            send(facts=as_json(answer(request)))
        except InputError as error:
            send(error=as_json(error.message))
            code = error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
