"""The kinds of chat templates that small models come with, written out for the tests, and tokenizers to render them."""

from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from engine.data.chat.templates import CHATML, ChatTemplate

HEADER = "{{ '<|im_start|>' + m.role + '\n' }}"
GENERATION = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
SYSTEM = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{% if tools %}{{ '<|im_start|>system\n# Tools' }}{% for t in tools %}{{ '\n' + t | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
)
CALLS = (
    "{% for c in m.tool_calls or [] %}{{ '\n' if m.content or not loop.first else '' }}"
    '{{ \'<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}\n</tool_call>' }}{% endfor %}"
)
ALTERNATE = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('a system text must come first') }}{% endif %}{% endfor %}"
    "{% set turns = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant') }}{% endif %}{% endfor %}"
)
QWEN25 = (
    SYSTEM + "{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{% else %}" + HEADER + "{{ m.content }}" + CALLS + "{{ '<|im_end|>\n' }}{% endif %}{% endfor %}" + GENERATION
)
# The thoughts of answers before the last question are dropped; without them there is an empty thought in the prompt.
QWEN3 = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}"
    "{% for m in messages %}" + HEADER + "{% if m.role == 'assistant' and loop.index0 > ns.last"
    " and (loop.last or m.reasoning_content) %}"
    "{{ '<think>\n' + (m.reasoning_content or '') | trim + '\n</think>\n\n' + m.content.lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}" + CALLS + "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{{ m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
# No role of a system: its text begins the first question.
GEMMA = (
    "{{ bos_token }}"
    + ALTERNATE
    + "{% set first = messages[0].content + '\n\n' if messages[0].role == 'system' else '' %}"
    "{% for m in turns %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ (first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
# The generation prompt is empty, and the end token is the only mark of an answer.
MISTRAL = (
    "{{ bos_token }}" + ALTERNATE + "{% for m in turns %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + (messages[0].content + '\n\n' if loop.first and messages[0].role == 'system' else '') }}"
    "{{ m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
PHI = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
DEEPSEEK = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
    "{{ '<｜User｜>' + m.content }}{% elif m.role == 'assistant' %}"
    "{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)
# An answer has no end of its own: the next turn's first token is where the model stops.
GLM = (
    "[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' }}"
    "{% if m.role == 'assistant' %}{{ '<think></think>\n' }}{% endif %}{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n<think></think>\n' }}{% endif %}"
)


WORDS = r" ?[\p{L}\p{N}]+|\s*[\r\n]+|\s+(?!\S)|\s+|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Kind:
    """A kind of template: what ends its answers, its tokens, and whether its conversations stay one row."""

    text: str
    stop: str
    special: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    eos: str = ""
    stops: tuple[str, ...] = ()  # by generation_config.json
    splits: bool = False
    alternates: bool = False

    def tokenizer(self, words: str = WORDS) -> PreTrainedTokenizerFast:
        """A tokenizer of bytes with the kind's special tokens and its template."""
        made = byte_tokenizer(*self.special, self.stop, eos=self.eos or self.stop, words=words)
        made.chat_template = self.text
        return made

    def template(self) -> ChatTemplate:
        """The template with its options."""
        return ChatTemplate(self.tokenizer(), "a model", None, self.options)


IM = ("<|im_start|>",)
BASE = Kind("", "</s>")  # of a model that has learned no conversations
KINDS = {
    "chatml": Kind(CHATML, "<|im_end|>", IM),
    "chatml-of-a-base-model": Kind(CHATML, "<|im_end|>", (*IM, "<|endoftext|>"), eos="<|endoftext|>"),
    "smollm2": Kind(SYSTEM + CHATML, "<|im_end|>", IM),
    "qwen2.5": Kind(QWEN25, "<|im_end|>", IM),
    "qwen3": Kind(QWEN3, "<|im_end|>", IM, splits=True),
    "qwen3-without-thoughts": Kind(QWEN3, "<|im_end|>", IM, options={"enable_thinking": False}, splits=True),
    "llama3": Kind(LLAMA3, "<|eot_id|>", special=("<|start_header_id|>", "<|end_header_id|>")),
    "gemma": Kind(GEMMA, "<end_of_turn>", special=("<start_of_turn>",), eos="<s>", alternates=True),
    "mistral": Kind(MISTRAL, "</s>", special=("[INST]", "[/INST]"), alternates=True),
    "mistral-without-tokens": Kind(MISTRAL, "</s>", alternates=True),
    "phi": Kind(
        PHI, "<|end|>", ("<|user|>", "<|assistant|>", "<|system|>"), eos="<|endoftext|>", stops=("<|end|>",)
    ),
    "deepseek": Kind(DEEPSEEK, "<｜end▁of▁sentence｜>", ("<｜User｜>", "<｜Assistant｜>")),
    "glm": Kind(
        GLM, "<|user|>", ("[gMASK]", "<sop>", "<|assistant|>", "<|system|>"), eos="<|endoftext|>", stops=("<|user|>",)
    ),
}  # fmt: skip


def byte_tokenizer(*special: str, eos: str, words: str = WORDS) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with a few merges, inside of words as a pattern says; without one, anywhere."""
    alphabet = {char: number for number, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    joined = [("Ċ", "Ċ"), ("Ġ", "a"), ("a", "n"), ("h", "e"), ("l", "l"), ("Ġ", "Ġ"), (":", "Ġ"), ("Ċ", "x")]
    vocabulary = alphabet | {first + second: len(alphabet) + at for at, (first, second) in enumerate(joined)}
    tokenizer = Tokenizer(models.BPE(vocabulary, joined))
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = [pre_tokenizers.Split(Regex(words), "isolated")] if words else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, bytewise])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(one, normalized=False) for one in dict.fromkeys((eos, "<s>", *special))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, pad_token=eos, bos_token="<s>")
