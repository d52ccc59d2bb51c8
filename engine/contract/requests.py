"""What the app asks of the engine's short-lived processes."""

import json
import os
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from engine.contract.bounds import Between, Count, Longest, Name, PathText, Positive, as_json, read_as
from engine.contract.config import require_kinds
from engine.contract.facts import ModelFacts, StepFacts
from engine.contract.hub_names import Source
from engine.contract.inputs import ImportForm
from engine.contract.leave_out import MOST_LEFT_OUT
from engine.contract.weighed import MOST_BEGINNINGS

MOST_FILES = 1 << 20
Files = Annotated[tuple[PathText, ...], Longest(MOST_FILES)]
Share = Annotated[float, Between(0, 1)]


Settings = Annotated[dict[str, Any], require_kinds]
TASKS: dict[str, type["Request"]] = {}  # what `engine.inspect` can be asked for, as the classes declare it


@dataclass(frozen=True)
class Request:
    """A question to `engine.inspect`; `task` names it on the wire."""

    task: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Adds the class to the tasks that are read."""
        TASKS[cls.task] = cls


@dataclass(frozen=True)
class DataRequest(Request):
    """Asks for DataFacts: of the files of some settings, and with `tokenize` of the tokenizer and the steps too."""

    task: ClassVar[str] = "data"
    config: Settings
    settings: tuple[Name, ...]
    processes: Positive
    tokenize: bool = True


@dataclass(frozen=True)
class ModelRequest(Request):
    """Asks for ModelFacts: of the model that a run starts from."""

    task: ClassVar[str] = "model"
    config: Settings


@dataclass(frozen=True)
class MemoryRequest(Request):
    """Asks for MemoryFacts: the peaks of a run, from what is known of its model, tokenizer (rows) and steps."""

    task: ClassVar[str] = "memory"
    config: Settings
    model: ModelFacts
    tokens: Positive
    steps: StepFacts
    on_gpu: bool
    gpu_bf16: bool = False  # whether the GPUs compute in bf16 natively
    processes: Positive = 1


@dataclass(frozen=True)
class RowRequest(Request):
    """Asks for RowFacts: of one row, counted from 0, of the file of a setting."""

    task: ClassVar[str] = "row"
    config: Settings
    setting: Name
    row: Count


@dataclass(frozen=True)
class PromptsRequest(Request):
    """Asks for PromptFacts: some prompts of the file of a setting that the training file lacks, drawn by a seed."""

    task: ClassVar[str] = "prompts"
    config: Settings
    setting: Name
    count: Positive
    seed: Count = 0


@dataclass(frozen=True)
class ImportRequest(Request):
    """What to import and where to; without `train` nothing is written."""

    task: ClassVar[str] = "import"
    files: Files = ()
    train: PathText = ""
    valid: PathText = ""
    test: PathText = ""
    prompt_column: str = ""  # if none is named, the shape of each record decides
    response_column: str = ""
    encoding: str = ""  # of all text files; detected if empty
    shown: dict[str, str] = field(default_factory=dict)  # names shown for files, if they differ from their paths
    form: ImportForm = "auto"  # of the rows; auto: messages if any record is a conversation
    history: Count | None = None  # earlier turns in the prompt of a pair, at most; None: all
    valid_ratio: Share = 0.1
    test_ratio: Share = 0.0
    spare_test: bool = False  # a test file not written by an import stays as it is, and no rows are held out for it
    sample: Count = 0  # rows; 0: all
    seed: Count = 23333
    overwrite: bool = False


@dataclass(frozen=True)
class ColumnsRequest(ImportRequest):
    """Asks for the columns among which a person must choose."""

    task: ClassVar[str] = "columns"


@dataclass(frozen=True)
class DemoRequest(ImportRequest):
    """Imports the questions and answers of the demo."""

    task: ClassVar[str] = "demo"


@dataclass(frozen=True)
class DemoChatRequest(ImportRequest):
    """Imports the demo's English pairs with a persona, or those that are held out from them."""

    task: ClassVar[str] = "demo-chat"
    held_out: bool = False


@dataclass(frozen=True)
class DemoTextsRequest(ImportRequest):
    """Imports texts cut in two, made of the demo's rows."""

    task: ClassVar[str] = "demo-texts"


@dataclass(frozen=True)
class TokenizerRequest(Request):
    """The Parquet files to train a tokenizer on, their columns, its folder, and how many tokens it may have."""

    task: ClassVar[str] = "tokenizer"
    files: Files
    output: PathText
    vocabulary: Positive
    prompt_column: str
    response_column: str
    messages_column: str


@dataclass(frozen=True)
class FetchRequest(Request):
    """Downloads a model from a hub into a folder; an empty `revision` is its main branch."""

    task: ClassVar[str] = "fetch"
    id: Name
    folder: PathText
    revision: Name = ""
    source: Source = "huggingface"


@dataclass(frozen=True)
class GgufRequest(Request):
    """Converts a model in a GGUF file to a folder in transformers' format."""

    task: ClassVar[str] = "gguf"
    path: PathText
    folder: PathText


@dataclass(frozen=True)
class ShowRequest(Request):
    """Asks for ShownModel: of a folder, or a file of weights."""

    task: ClassVar[str] = "show"
    path: PathText


@dataclass(frozen=True)
class DigestsRequest(Request):
    """Asks for RowDigests: of rows, counted from 0, of a data file."""

    task: ClassVar[str] = "digests"
    path: PathText
    rows: Annotated[tuple[Count, ...], Longest(MOST_LEFT_OUT)]


@dataclass(frozen=True)
class WantedRow:
    """A row of a run's token store, by its number there; its row of the file and its learned tokens must be these."""

    sample: Count
    row: Count
    tokens: Count


@dataclass(frozen=True)
class BeginningsRequest(Request):
    """Asks `engine.weigh` for Beginnings: of rows of a run whose model is in the folder `output`, if it has one."""

    task: ClassVar[str] = "beginnings"
    config: Settings
    output: PathText
    rows: Annotated[tuple[WantedRow, ...], Longest(MOST_BEGINNINGS)]


@dataclass(frozen=True)
class WeighRequest(Request):
    """Asks `engine.weigh` for a WeighedRow."""

    task: ClassVar[str] = "weigh"
    config: Settings
    output: PathText
    row: WantedRow


@dataclass(frozen=True)
class DataGlanceRequest(Request):
    """Asks for DataGlance: of a file that may hold rows."""

    task: ClassVar[str] = "data-glance"
    path: PathText


@dataclass(frozen=True)
class ModelGlanceRequest(Request):
    """Asks for ModelGlance: of a folder that may hold a model."""

    task: ClassVar[str] = "model-glance"
    path: PathText


def request_line(request: Request) -> bytes:
    """A request as a line of JSON, with the pid of this process: the one that answers ends with it."""
    named = {"task": request.task, "asker": os.getpid()}
    return json.dumps({**named, **as_json(request)}).encode() + b"\n"


def read_task(line: str | bytes) -> tuple[int, Request]:
    """The pid of the process that asks `engine.inspect`, and its request; raises TypeError or ValueError."""
    asked = json.loads(line)
    named = read_as(_Task, asked)
    return named.asker, read_as(TASKS[named.task], asked)


def _known(task: str) -> None:
    """Raises ValueError if there is no such task."""
    if task not in TASKS:
        raise ValueError("no task")


@dataclass(frozen=True)
class _Task:
    task: Annotated[str, _known]
    asker: Positive
