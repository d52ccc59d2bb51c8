"""A tokenizer, models and rows so small that a whole training run takes about a second.

Torch and transformers are imported by the fixtures that need them: most of the tests of the app never do.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from engine.contract.texts import compile_catalogues
from tests import signal_handlers, watchdog

KEPT_VARIABLES = ("SFT_TUI_KEEP_SCREENS", "SFT_TUI_TESTS")
pytest_plugins = ["tests.faults.scenarios"]  # here, because of the conftest files below the main process reads none

# What a shell or nohup lets its jobs ignore, what the tests start would inherit; a handler is not inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
# What the user of this machine has set must not reach the runs and commands of the tests, nor these the user.
for variable in [name for name in os.environ if name.startswith("SFT_TUI_") and name not in KEPT_VARIABLES]:
    del os.environ[variable]
os.environ["SFT_TUI_NOTIFY"] = ""
watchdog.begin()
# An example is not wrong because this process had to wait while it was made or tried.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")
if "PYTEST_XDIST_WORKER" not in os.environ:  # several writers at once would take each other's file away
    compile_catalogues()  # what is edited is what is tested

TOGETHER = {"two_ranks", "uncut_on_two"}  # each a launch of two processes, for all tests that ask for it
BY_REQUEST = ("tests/engine/training/test_sharded_step.py", "tests/engine/gpu/test_gpu_ranks.py")  # ask for them too
LONG = ("tests/faults/", "tests/test_train_low_mem.py", "tests/sft_tui/cli/test_main.py")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[Any]:
    """Puts back what a run that many tests share leaves of handlers; a test's own fixtures may set them for it."""
    with signal_handlers.put_back() if fixturedef.scope != "function" else contextlib.nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[Any]:
    """Puts back what a test leaves of handlers."""
    with signal_handlers.put_back():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with tests that share a launch, so that one worker gets them all, and with long ones.

    A worker gets tests that follow each other, and gives up the last ones to a worker that has none left: what comes
    last should be short.
    """

    def place(item: pytest.Item) -> int:
        named = isinstance(item, pytest.Function) and not TOGETHER.isdisjoint(item.fixturenames)
        shared = named or item.nodeid.startswith(BY_REQUEST)
        return 0 if shared else 1 if item.nodeid.startswith(LONG) else 2

    items.sort(key=place)


# Uneven on purpose, from one character to a long line: what is wrong on uneven rows shows only there.
ROWS = [
    ("你好", "你好，有什么可以帮你？"),
    ("谢谢", "不客气。"),
    ("一加一等于几？", "二。"),
    ("今天天气怎么样？", "我看不到窗外，请看一看天气预报。"),
    ("北京是哪个国家的首都？", "北京是中国的首都。"),
    ("请用一句话介绍长城。", "长城是中国古代修建的防御工程，东起山海关，西至嘉峪关，全长两万多公里。"),
    ("hello", "hello, how can I help you?"),
    ("who are you?", "a small model."),
    ("水在多少度结冰？", "在标准大气压下，水在零摄氏度结冰。"),
    ("讲个笑话", "有一天，一个面包走在路上，忽然饿了，就把自己吃了。"),
    ("再见", "再见！"),
    (
        "如何学好一门外语？多说，多听，多读，还是多写？",
        "四样都要，但先多听，再多说；每天坚持半小时，比一周学一次好得多。",
    ),
    ("苹果是水果吗", "是"),
    ("月亮为什么会有圆缺", "因为太阳照亮月亮的一半，而我们从地球上看到的这一半随它的位置而变。"),
    ("早", "早上好！"),
    ("what is the capital of France?", "Paris"),
    ("写一首诗", "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。"),
    ("猫喜欢吃什么？", "鱼。"),
    ("为什么天空是蓝色的？", "阳光穿过大气时，蓝光比红光散射得多，所以天空看上去是蓝色的。"),
    ("晚安", "晚安，好梦。"),
]
TRAIN_ROWS = ROWS + [(response, prompt) for prompt, response in ROWS]
VALIDATION_ROWS = ROWS[:17]


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tokenizer with one token for each character: [PAD] 0, [EOS] 1, [UNK] 2."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    characters = sorted({character for row in ROWS for text in row for character in text})
    words = ["[PAD]", "[EOS]", "[UNK]", *characters]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(single="$A [EOS]", special_tokens=[("[EOS]", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", eos_token="[EOS]", unk_token="[UNK]"
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_shape() -> dict[str, int]:
    """The settings that describe `tiny_t5` to a run that loads it from a bare state dict."""
    return {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}


@pytest.fixture(scope="session")
def tiny_t5(tiny_tokenizer: Path, tiny_shape: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a T5 with random weights and dropout 0.1, its head tied to its embeddings."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    torch.manual_seed(1)
    vocabulary = len(AutoTokenizer.from_pretrained(tiny_tokenizer))
    shape: dict[str, Any] = {**tiny_shape, "decoder_start_token_id": 0}
    config = T5Config(vocab_size=vocabulary, **shape, dropout_rate=0.1, pad_token_id=0, eos_token_id=1)
    folder = tmp_path_factory.mktemp("t5")
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_t5_bin(tiny_t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of `tiny_t5` as a bare state dict."""
    import torch
    from transformers import T5ForConditionalGeneration

    path = tmp_path_factory.mktemp("state_dict") / "t5.bin"
    torch.save(T5ForConditionalGeneration.from_pretrained(tiny_t5).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_bart(tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BART with random weights and a final_logits_bias that is not zero."""
    import torch
    from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration

    torch.manual_seed(2)
    config = BartConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(tiny_tokenizer)),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        dropout=0.1,
        init_std=0.3,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=1,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
    )
    model = BartForConditionalGeneration(config)
    model.final_logits_bias.normal_()
    folder = tmp_path_factory.mktemp("bart")
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.parquet (40 rows) and valid.parquet (17 rows), columns prompt and response."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("data")
    for name, chosen in (("train", TRAIN_ROWS), ("valid", VALIDATION_ROWS)):
        prompts, responses = zip(*chosen, strict=True)
        pq.write_table(pa.table({"prompt": prompts, "response": responses}), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_settings(tiny_tokenizer: Path, tiny_t5: Path, tiny_shape: dict[str, int], tiny_data: Path) -> dict[str, Any]:
    """Settings of a run of 10 steps (2 epochs of 5) on one process, all paths but the output folder's."""
    return {
        "train_file": str(tiny_data / "train.parquet"),
        "validation_file": str(tiny_data / "valid.parquet"),
        "test_file": str(tiny_data / "valid.parquet"),
        "token_store": str(tiny_data / "token_store"),
        "tokenizer": str(tiny_tokenizer),
        "pretrained_model": str(tiny_t5),
        **tiny_shape,
        "max_seq_len": 32,
        "epochs": 2,
        "batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 8,
        "learn_rate": 1e-3,
        "div_factor": 10,
        "warmup_steps": 3,
        "mixed_precision": "fp32",
        "micro_batch_tokens": 128,
        "loss_chunk_tokens": 16,
        "max_new_tokens": 8,
        "save_steps": 1,
        "keep_latest_n_ckp": 100,
    }


@pytest.fixture(scope="session")
def real_rows() -> Path:
    """Real Chinese questions and answers, which are kept next to the repository, not in it."""
    path = Path(__file__).parents[2] / "shared" / "data" / "zh" / "train_3k.parquet"
    if not path.is_file():
        pytest.skip(f"NOT TESTED ON REAL ROWS: {path} is not there")
    return path
