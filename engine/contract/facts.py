"""What the inspecting process (`engine.inspect`) reports of data, tokenizer and model: typed, and bounded when read.

What cannot be read is a Message in place of its facts. Rows are numbered from 0 as in their file; -1 stands for none.
"""

from dataclasses import astuple, dataclass, field, replace
from typing import Annotated, Any, Literal

from engine.contract.bounds import EXACT, MOST_ITEMS, WIDEST, Between, Count, Longest, Name, Positive
from engine.contract.glances import Form
from engine.contract.leave_out import Digest
from engine.contract.messages import Message

MOST_SHOWN = 1 << 20  # characters and tokens of a row that are shown
MOST_NAMED, LONGEST_NAME = 1000, 200  # special tokens that are named, and characters of each name
LONGEST_PROMPT, MOST_PROMPTS = 2000, 100  # characters of a prompt that is judged, and how many are asked for
RowNumber = Annotated[int, Between(-1, EXACT)]
TokenId = Annotated[int, Between(-WIDEST, WIDEST)]
Share = Annotated[float, Between(0, 1)]
Verified = Literal["", "crc32", "sha256"]  # what vouches for a model's files, the weakest first
Part = Literal["prompt", "label"]
PARTS: tuple[Part, ...] = ("prompt", "label")
DATA_FILES = ("train_file", "validation_file")  # settings


# --- data


@dataclass(frozen=True)
class SomeRows:
    """The rows with some property: how many, and the first of them."""

    rows: Count = 0
    first: RowNumber = -1


@dataclass(frozen=True)
class Histogram:
    """Numbers of rows by their tokens: `edges` has one entry more than `counts`."""

    edges: tuple[Annotated[float, Between(0, EXACT)], ...]
    counts: tuple[Count, ...]


@dataclass(frozen=True)
class LengthFacts:
    """Tokens of the prompts or the labels of a file, before any cut."""

    median: Count
    p95: Count
    longest: Count
    histogram: Histogram


@dataclass(frozen=True)
class Damage:
    """A damaged token store that was made again: which file, and what was wrong."""

    path: str
    why: str


@dataclass(frozen=True)
class StoreFacts:
    """The token store of a file: its size, and whether it is kept for the run."""

    bytes: Count
    kept: bool
    damage: Damage | None = None


@dataclass(frozen=True)
class ChatFacts:
    """What became of the conversations of a file."""

    conversations: Count  # that rows were made of
    answers: Count  # that are learned
    split: Count  # conversations of which each answer is a row, since the template rewrites earlier turns
    too_long: Count  # answers that are left out
    open: Count  # conversations whose last message is not an answer
    stops: dict[Name, Count] = field(default_factory=dict)  # the tokens that end answers, and how many each
    unwritten: dict[Name, Count] = field(default_factory=dict)  # conversations by what the template does not write


@dataclass(frozen=True)
class TokenFacts:
    """The usable rows of a file as tokens; all but `prompt`, `label` and `turns_longest` at the limit of the run."""

    limit: Positive
    tokens: Count
    label_tokens: Count
    unknown_tokens: Count
    cut_rows: Count
    cut_tokens: Count
    cut_label_tokens: Count
    turns_rows: Count  # rows that lose their oldest turns
    turns_left_out: Count
    turns_longest: Count  # tokens of the longest row with all its turns
    prompt: LengthFacts
    label: LengthFacts
    unanswered: SomeRows  # whose label is nothing but the end token
    repeated: SomeRows
    store: StoreFacts
    chat: ChatFacts | None = None  # of a file of conversations
    longest_row: Count = 0  # tokens of a prompt and its label together, before any cut

    def lengths(self, part: Part) -> LengthFacts:
        """The lengths of prompts or labels."""
        return self.prompt if part == "prompt" else self.label

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return max(self.turns_longest, self.prompt.longest, self.label.longest)


@dataclass(frozen=True)
class LeftOutFacts:
    """How many rows of the training file a person left out, and those listed that are no longer what they were."""

    rows: Count = 0
    stale: SomeRows = SomeRows()


@dataclass(frozen=True)
class FileFacts:
    """The rows of a data file; `tokens` is None if there is no tokenizer to read them with."""

    rows: Count
    dropped: dict[Name, Count] = field(default_factory=dict)  # by reason (`engine.contract.reasons`)
    first_dropped: RowNumber = -1
    noticed: dict[Name, Count] = field(default_factory=dict)  # what was left out of conversations, by reason
    control: SomeRows = SomeRows()
    replacement: SomeRows = SomeRows()
    scripts: dict[Name, Share] = field(default_factory=dict)  # shares of all letters, largest first
    tokens: TokenFacts | None = None
    form: Form = "pairs"
    left_out: LeftOutFacts = LeftOutFacts()

    @property
    def usable(self) -> int:
        """Rows that are trained on or evaluated."""
        return self.rows - sum(self.dropped.values())

    @property
    def script(self) -> str:
        """The script of most letters; empty if there are none."""
        return next(iter(self.scripts), "")


@dataclass(frozen=True)
class TokenizerFacts:
    """A tokenizer; `differs` says how it differs from the one in the model's folder.

    `unused_options` are those of `template_options` whose names do not occur in the chat template of the run.
    """

    tokens: Positive  # rows that a model needs for it
    pad: TokenId | None = None
    eos: TokenId | None = None
    unk: TokenId | None = None
    named: dict[Name, Name] = field(default_factory=dict)  # special tokens by their number
    differs: Message | None = None
    unused_options: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Batch:
    """A micro-batch: rows, its longest prompt and label in tokens, and all tokens of its rows without padding."""

    rows: Count
    prompt: Count
    label: Count
    tokens: Count = 0


@dataclass(frozen=True)
class StepFacts:
    """The steps of a run; `largest` and `packed` are the micro-batches that may need the most memory, either way.

    A batch of `packed` stands for one of the same rows without padding: its lengths are root mean squares. `generation`
    is the batch whose replies need the most.
    """

    rows: Count
    per_epoch: Count
    total: Count
    label_tokens: Count
    prompt_tokens: Count
    largest: tuple[Batch, ...]
    packed: tuple[Batch, ...]
    generation: Batch


@dataclass(frozen=True)
class DataFacts:
    """The data files of a run and its tokenizer."""

    tokenizer: Message | TokenizerFacts | None = None  # None: not asked for
    train_file: Message | FileFacts | None = None
    validation_file: Message | FileFacts | None = None
    overlap: SomeRows = SomeRows()  # rows of the validation file that the training file has too
    steps: StepFacts | None = None

    def file(self, setting: str) -> Message | FileFacts | None:
        """The facts about the file of a setting."""
        found: Message | FileFacts | None = getattr(self, setting)
        return found

    @property
    def read(self) -> dict[str, FileFacts]:
        """The files that could be read, by setting."""
        found = {setting: self.file(setting) for setting in DATA_FILES}
        return {setting: facts for setting, facts in found.items() if isinstance(facts, FileFacts)}

    @property
    def known_tokenizer(self) -> TokenizerFacts | None:
        """The tokenizer, if it could be read."""
        return self.tokenizer if isinstance(self.tokenizer, TokenizerFacts) else None


@dataclass(frozen=True)
class PromptFacts:
    """Prompts that were not trained on: what a conversation begins with, each once.

    Of `found` different ones in the file, `trained` are left out since the training file has them too, and `too_long`
    since nobody would read them; `compared` says whether a training file was there to compare with.
    """

    prompts: Annotated[tuple[Annotated[str, Longest(LONGEST_PROMPT)], ...], Longest(MOST_PROMPTS)] = ()
    found: Count = 0
    trained: Count = 0
    too_long: Count = 0
    compared: bool = False


# --- model


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens by a model's own configuration, where any value may occur; one that is not a number is a text."""

    pad: TokenId | Name | None = None
    eos: tuple[TokenId | Name, ...] = ()
    decoder_start: TokenId | Name | None = None
    needed: tuple[Name, ...] = ()  # of "decoder_start" and "pad" that its embeddings must have; "eos": the tokenizer's


@dataclass(frozen=True)
class Positions:
    """The most tokens that a prompt and a label may have, or both together; None: any number."""

    prompt: Count | None = None
    label: Count | None = None
    row: Count | None = None

    @property
    def known(self) -> dict[str, int]:
        """The limits that exist, by part."""
        return {part: most for part in (*PARTS, "row") if (most := getattr(self, part)) is not None}


@dataclass(frozen=True)
class Sizes:
    """Parameters, each shared one once, those that learn, and bytes of the optimizer's state for these."""

    parameters: Count = 0
    trained: Count = 0
    optimizer_bytes: Count = 0

    def plus(self, other: "Sizes", times: int = 1) -> "Sizes":
        """The sum with `times` the other."""
        return Sizes(*(mine + times * its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class DecoderFacts:
    """The shape of a causal model; `window` is that of its layers with sliding attention, 0 without any."""

    layers: Count
    sliding_layers: Count
    width: Count
    hidden_width: Count  # of a feed-forward
    heads: Count
    kv_heads: Count
    head_width: Count
    window: Count
    context: Count  # tokens of a row that it was made for; 0 if its configuration does not say
    tied: bool  # whether its head is its embeddings


@dataclass(frozen=True)
class ModelFacts:
    """The model that a run starts from, by the name that people know it by.

    Of a new model `rows` is 0: the tokenizer decides how many rows its embeddings have, and each adds `per_row`.
    """

    name: Annotated[str, Longest(MOST_ITEMS)]
    family: Name
    rows: Count
    sizes: Sizes
    weights_bytes: Count
    per_row: Sizes = Sizes()
    special: SpecialTokens | None = None
    positions: Positions = Positions()
    wrapper: Name = ""  # a prefix of the names of all weights that is taken off
    verified: Verified = ""
    settings: dict[str, Any] = field(default_factory=dict)  # of its configuration
    title: Name = ""  # without the folders before it
    kind: Name = ""  # its family as the setting `family` names it
    dtype: Name = ""  # of most weights in its files: bf16, fp32, …
    decoder: DecoderFacts | None = None  # of a causal model

    def for_tokens(self, tokens: int) -> "ModelFacts":
        """The same with as many rows as a tokenizer with `tokens` tokens needs, if it is new."""
        return self if self.rows else replace(self, rows=tokens, sizes=self.sizes.plus(self.per_row, tokens))


# --- rows that are left out


@dataclass(frozen=True)
class RowDigests:
    """The digests of some rows, as `engine.contract.leave_out` keeps them; a row that the file lacks has none."""

    digests: dict[str, Digest]  # by the number of the row
    rows: Count = 0  # of the file


# --- a row


@dataclass(frozen=True)
class PieceFacts:
    """A text as tokens: of `count` the first `kept` are used; `ids` and `pieces` may be cut to what is shown."""

    text: Annotated[str, Longest(MOST_SHOWN)] | None
    count: Count
    kept: Count
    unknown: Count
    ids: Annotated[tuple[TokenId, ...], Longest(MOST_SHOWN)] = ()
    pieces: Annotated[tuple[str, ...], Longest(MOST_SHOWN)] = ()
    turns_left_out: Count = 0
    left_out: Annotated[str, Longest(MOST_SHOWN)] = ""


@dataclass(frozen=True)
class PairFacts:
    """A prompt and its response as tokens."""

    prompt: PieceFacts
    response: PieceFacts


@dataclass(frozen=True)
class RewrittenFacts:
    """The message that a chat template writes differently than in the row before, how it was there, and how it is."""

    message: Count
    role: Name
    before: str
    after: str


@dataclass(frozen=True)
class LearnedRowFacts:
    """A row that is made of a conversation; `texts` are those of its ids, empty for more bytes of a character.

    `left_out` counts the oldest messages that do not fit, `lost` is their text. `rewritten` is why it is another row
    than the one before.
    """

    ids: Annotated[tuple[TokenId, ...], Longest(MOST_SHOWN)]
    texts: Annotated[tuple[str, ...], Longest(MOST_SHOWN)]
    learned: Annotated[tuple[tuple[Count, Count], ...], Longest(MOST_SHOWN)]  # first place, and that after the last
    left_out: Count = 0
    lost: Annotated[str, Longest(MOST_SHOWN)] = ""
    rewritten: RewrittenFacts | None = None


@dataclass(frozen=True)
class ConversationFacts:
    """A conversation as a chat model learns it: its messages and answers, and the answers that do not fit."""

    messages: Count
    answers: Count
    too_long: Count
    limit: Positive
    rows: Annotated[tuple[LearnedRowFacts, ...], Longest(MOST_SHOWN)]


@dataclass(frozen=True)
class RowFacts:
    """A row as the model sees it; `rows` is the number of rows in its file.

    A pair, or a conversation with a pair for each answer, or, for a chat model, a conversation as its template writes
    it. `refused` is the reason why it is left out.
    """

    rows: Count
    tokenizer: TokenizerFacts
    form: Form
    pairs: Annotated[tuple[PairFacts, ...], Longest(MOST_SHOWN)] = ()
    refused: str = ""
    chat: ConversationFacts | None = None
