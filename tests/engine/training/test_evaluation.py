import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from torch.nn import functional
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from engine.contract.config import RunConfig
from engine.data.batching import Measure
from engine.data.parquet_rows import RowSource
from engine.data.references import references, rows_replied
from engine.data.token_store import TokenStore, open_store
from engine.models.on_device import find_head, network_of
from engine.models.seq2seq.padded import greedy_replies
from engine.process.world import World
from engine.training.evaluation import Evaluator, Score
from engine.training.metrics import corpus_bleu, perplexity, reply_scores, script_tokenizer
from tests.conftest import VALIDATION_ROWS

if TYPE_CHECKING:
    from tests.engine.conftest import TwoRanks

SIZES = list(range(1, 18))
Evaluate = Callable[..., Score]


@pytest.fixture(scope="module")
def net(taught_t5: Path) -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(taught_t5).eval()


@pytest.fixture(scope="module")
def rows(stores: dict[str, TokenStore]) -> TokenStore:
    return stores["validation_file"]


@pytest.fixture(scope="module")
def evaluate(
    net: Any, rows: TokenStore, tokenizer: PreTrainedTokenizerBase, scored_config: RunConfig, cpu_world: World
) -> Evaluate:
    taught = net

    def run(
        *,
        net: Any = taught,
        chunked: bool = True,
        store: TokenStore = rows,
        path: str = scored_config.validation_file,
        progress: Any = None,
        **changed: Any,
    ) -> Score:
        config = dataclasses.replace(scored_config, **changed)
        source = RowSource(Path(path), "validation_file", "prompt", "response")
        tell = progress or (lambda _name, _done, _total: None)
        head = find_head(net) if chunked else None
        network = network_of(net, head, config.loss_chunk_tokens, bf16=False)
        wanted = references(source, store, rows_replied(config, len(store)))
        return Evaluator(network, tokenizer, store, wanted, cpu_world, config, progress=tell).run()

    return run


@pytest.fixture(scope="module")
def untaught(tiny_t5: Path) -> Any:
    """A model whose losses are not close to nothing, where float32 has few digits left."""
    return AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).eval()


@pytest.fixture(scope="module")
def row_losses(tiny_t5: Path, rows: TokenStore) -> list[float]:
    """The summed cross-entropy of each row by itself, in float64."""
    precise = AutoModelForSeq2SeqLM.from_pretrained(tiny_t5).double().eval()
    losses = []
    for index in range(len(rows)):
        prompt, label = (torch.tensor(part(index).tolist()) for part in (rows.prompt, rows.label))
        before = torch.cat([torch.tensor([0]), label[:-1]])
        with torch.no_grad():
            logits = precise(input_ids=prompt[None], decoder_input_ids=before[None]).logits[0]
        losses.append(functional.cross_entropy(logits, label, reduction="sum").item())
    return losses


def greedy(net: Any, prompt: list[int], longest: int) -> list[int]:
    """The most likely token again and again, each found by running everything again."""
    reply = [0]
    while len(reply) <= longest and reply[-1] != 1:
        with torch.no_grad():
            logits = net(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([reply])).logits
        reply.append(int(logits[0, -1].argmax()))
    return reply


@pytest.fixture(scope="module")
def row_replies(net: Any, rows: TokenStore, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    longest = max(len(rows.label(index)) for index in range(len(rows)))
    replies = [greedy(net, rows.prompt(index).tolist(), longest) for index in range(len(rows))]
    return [str(tokenizer.decode(reply, skip_special_tokens=True)) for reply in replies]


@pytest.mark.parametrize("size", SIZES)
def test_the_loss_is_the_mean_over_label_tokens(
    evaluate: Evaluate, untaught: Any, rows: TokenStore, row_losses: list[float], size: int
) -> None:
    score = evaluate(net=untaught, eval_rows=size, bleu_rows=1, max_new_tokens=1)
    tokens = sum(len(rows.label(index)) for index in range(size))
    assert score.rows == size
    assert score.loss == pytest.approx(sum(row_losses[:size]) / tokens, rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 16, 17])
def test_every_row_gets_the_reply_it_gets_alone(
    evaluate: Evaluate, row_replies: list[str], rows: TokenStore, size: int
) -> None:
    predictions = evaluate(eval_rows=size, max_new_tokens=max(len(rows.label(i)) for i in range(17))).predictions
    assert [prediction.row for prediction in predictions] == list(range(size))
    assert [prediction.reply for prediction in predictions] == row_replies[:size]
    assert [prediction.reference for prediction in predictions] == [response for _, response in VALIDATION_ROWS[:size]]


def test_bleu_is_sacrebleus_over_the_replies(evaluate: Evaluate, row_replies: list[str]) -> None:
    score = evaluate()
    references = [prediction.reference for prediction in score.predictions]
    metric = BLEU(tokenize="zh")
    assert score.measures["bleu"].value == metric.corpus_score(row_replies, [references]).score
    assert score.measures["bleu"].signature == str(metric.get_signature())
    assert 5 < score.measures["bleu"].value < 95  # a score that neither silence nor the references would get


def test_every_measure_is_of_the_same_replies(evaluate: Evaluate, row_replies: list[str]) -> None:
    score = evaluate(bleu_rows=5)
    references = [prediction.reference for prediction in score.predictions]
    assert len(references) == 5
    assert score.measures == {"perplexity": perplexity(score.loss), **reply_scores(row_replies[:5], references)}


@pytest.mark.parametrize("changed", [{"micro_batch_tokens": 1}, {"micro_batch_tokens": 9999}, {"eval_batch_rows": 1}])
def test_batches_do_not_change_the_score(evaluate: Evaluate, changed: dict[str, int]) -> None:
    usual, other = evaluate(), evaluate(**changed)
    assert other.loss == pytest.approx(usual.loss, rel=1e-6)
    assert other.predictions == usual.predictions
    assert other.measures["bleu"] == usual.measures["bleu"]


def test_a_model_with_its_own_head_gives_the_same_loss(evaluate: Evaluate) -> None:
    assert evaluate(chunked=False, bleu_rows=1).loss == pytest.approx(evaluate(bleu_rows=1).loss, rel=1e-6)


@pytest.mark.parametrize("size", ["1", "2", "3", "8", "17"])
def test_two_ranks_give_the_score_of_one(two_ranks: "TwoRanks", evaluate: Evaluate, size: str) -> None:
    alone = dataclasses.asdict(evaluate(eval_rows=int(size)))
    for found in two_ranks.found:
        score = found["scores"][size]
        assert score["rows"] == int(size)
        assert score["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        assert score["predictions"] == list(alone["predictions"])
        assert score["measures"].keys() == alone["measures"].keys()
        for name in ("bleu", "chrf", "rouge-l", "exact-match"):
            assert score["measures"][name] == alone["measures"][name]


@pytest.mark.parametrize("case", [(128, 1, 1), (128, 2, 2), (128, 3, 3), (3, 2, 6), (128, 99, 17)])
def test_every_rank_has_replies_to_generate(
    rows: TokenStore,
    scored_config: RunConfig,
    cpu_world: World,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[int, int, int],
) -> None:
    size, ranks, batches = case
    monkeypatch.setattr(cpu_world, "size", ranks)
    config = dataclasses.replace(scored_config, eval_batch_rows=size, bleu_rows=0)
    unasked: Any = None
    found = Evaluator(unasked, unasked, rows, [], cpu_world, config, unasked).reply_batches()
    assert (len(found), sorted(row for batch in found for row in batch)) == (batches, list(range(17)))


class Parrot:
    """A network whose replies are given in advance."""

    measure, together = Measure.PARTS, False

    def __init__(self, replies: list[list[int]], net: Any) -> None:
        self._replies, self.model = replies, net

    def begin_step(self) -> None:
        """Has nothing to lay out."""

    def scoring_budget(self, budget: int) -> int:
        """All that the budget allows."""
        return budget

    def row_losses(self, rows: list[Any]) -> list[float]:
        """A loss for each."""
        return [1.0] * len(rows)

    def replies(self, prompts: list[Any], _longest: int) -> list[list[int]]:
        """The next of its replies."""
        said, self._replies = self._replies[: len(prompts)], self._replies[len(prompts) :]
        return said


# Longer than the limit, full width where the tokenizer is not, characters that it does not know, white space.
HARD = ["今天天气很好，我们一起去公园散步，然后回家吃饭吧。" * 3, "龘龘的ＡＢＣ，１２３。", "  两行\n  文字  ", "你好"]


def scored_by_heart(
    tokenizer: PreTrainedTokenizerBase, config: RunConfig, cpu_world: World, net: Any, folder: Path, limit: int
) -> Score:
    """The score of a model that replies with each label word for word, as far as the limit lets it."""
    path = folder / "hard.parquet"
    pq.write_table(pa.table({"prompt": ["问"] * len(HARD), "response": HARD}), path)
    source = RowSource(path, "validation_file", "prompt", "response")
    store = open_store(source, tokenizer, limit, folder, lambda _done, _total: None)
    order = [[int(token) for token in store.label(index)] for index in range(len(HARD))]
    config = dataclasses.replace(config, eval_batch_rows=32)
    wanted = references(source, store, len(HARD))
    network: Any = Parrot(order, net)
    return Evaluator(network, tokenizer, store, wanted, cpu_world, config, lambda _name, _done, _total: None).run()


@pytest.mark.parametrize("limit", [8, 32, 512])
def test_replies_are_scored_against_the_uncut_text(
    tokenizer: PreTrainedTokenizerBase, scored_config: RunConfig, cpu_world: World, net: Any, tmp_path: Path, limit: int
) -> None:
    score = scored_by_heart(tokenizer, scored_config, cpu_world, net, tmp_path, limit)
    assert [prediction.reference for prediction in score.predictions] == HARD
    replies = [prediction.reply for prediction in score.predictions]
    assert score.measures["bleu"] == corpus_bleu(replies, HARD)
    assert score.measures["bleu"].value < 90  # of the labels as the model has them, a hundred
    assert score.bleu_of_labels == score.measures["bleu"].value


def test_replies_can_be_limited_to_fewer_rows(evaluate: Evaluate) -> None:
    score = evaluate(eval_rows=9, bleu_rows=4)
    assert (score.rows, len(score.predictions)) == (9, 4)
    assert score.loss == evaluate(eval_rows=9, bleu_rows=1).loss


@pytest.mark.parametrize("limit", ["eval_rows", "bleu_rows"])
def test_a_limit_above_the_number_of_rows_takes_all(evaluate: Evaluate, limit: str) -> None:
    score = evaluate(**{limit: 1000})
    assert (score.rows, len(score.predictions)) == (17, 17)


def test_replies_end_at_max_new_tokens(evaluate: Evaluate) -> None:
    lengths = [len(prediction.reply) for prediction in evaluate(max_new_tokens=3).predictions]
    assert max(lengths) == 3


def test_a_prediction_names_its_row_in_the_file(
    evaluate: Evaluate, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """Rows that were left out count in the file, and not in the store."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"prompt": ["", "你好", None, "谢谢"], "response": ["a", "hello", "c", "model"]}), path)
    source = RowSource(path, "validation_file", "prompt", "response")
    store = open_store(source, tokenizer, 32, tmp_path, lambda _done, _total: None)
    found = [(p.row, p.prompt, p.reference) for p in evaluate(store=store, path=str(path)).predictions]
    assert found == [(1, "你好", "hello"), (3, "谢谢", "model")]


def test_progress_runs_from_zero_to_all(evaluate: Evaluate) -> None:
    reported: list[tuple[str, int, int]] = []
    evaluate(progress=lambda *what: reported.append(what))
    for name in ("evaluating", "generating"):
        steps = [(done, total) for phase, done, total in reported if phase == name]
        total = steps[0][1]
        assert total > 1
        assert steps == [(done, total) for done in range(total + 1)]


@pytest.mark.parametrize(
    "setting", [{"repetition_penalty": 5.0}, {"no_repeat_ngram_size": 1}, {"min_new_tokens": 12}, {"num_beams": 3}]
)
def test_the_models_generation_settings_do_not_change_replies(
    taught_t5: Path, rows: TokenStore, setting: dict[str, float]
) -> None:
    """Published models come with beams, penalties and least lengths; a score is of greedy replies all the same."""
    net = AutoModelForSeq2SeqLM.from_pretrained(taught_t5).eval()
    prompts = [torch.tensor(rows.prompt(row).tolist())[None] for row in (1, 7)]  # a short and a repetitive reply
    plain = [greedy_replies(net, prompt, torch.ones_like(prompt), 12) for prompt in prompts]
    assert plain == [[greedy(net, prompt[0].tolist(), 12)] for prompt in prompts]
    net.generation_config.update(**setting)
    assert [greedy_replies(net, prompt, torch.ones_like(prompt), 12) for prompt in prompts] == plain


def test_real_chinese_answers_are_recognized_as_chinese(real_rows: Path) -> None:
    assert script_tokenizer(pq.read_table(real_rows)["response"].to_pylist()) == "zh"


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 3), (3, 1), (2, 2)])
def test_replies_are_greedy_at_any_depth(encoder: int, decoder: int) -> None:
    """The cache that transformers makes for a T5 has the encoder's depth."""
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_heads": 2, "vocab_size": 50, "decoder_start_token_id": 0}
    config = T5Config(**shape, num_layers=encoder, num_decoder_layers=decoder)  # type: ignore[arg-type]
    model = T5ForConditionalGeneration(config).eval()
    ids = torch.tensor([[5, 6, 7, 1], [8, 9, 1, 0]])
    mask = (ids != 0).long()
    expected = torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        for _ in range(5):
            logits = model(input_ids=ids, attention_mask=mask, decoder_input_ids=expected, use_cache=False).logits
            expected = torch.cat([expected, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    ended = [row[: row.index(1) + 1] if 1 in row else row for row in expected.tolist()]
    replies = greedy_replies(model, ids, mask, 5)
    assert [reply[: len(row)] for reply, row in zip(replies, ended, strict=True)] == ended
