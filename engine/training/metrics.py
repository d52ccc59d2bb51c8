"""How good replies are by the texts they should have been: BLEU, chrF, ROUGE-L and exact match, with signatures.

BLEU and chrF are sacrebleu's. ROUGE-L is the mean over the rows of the F1 of the longest common subsequence (Lin, 2004,
"ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, beta = 1), over sacrebleu's tokens, so that it
is defined for every script; texts are lower-cased, as the ROUGE package does.
"""

import math
import unicodedata
from collections.abc import Sequence

import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from engine.contract.scores import Measured

VERSION = 1  # of what is computed here; raise it with any change of a value
PERPLEXITY = f"exp:mean-loss|log:e|per:learned-token|version:{VERSION}"
EXACT_MATCH = f"nrefs:1|case:mixed|norm:strip|scale:100|version:{VERSION}"
MOST_TOKENS = 20_000  # of a text, that ROUGE-L counts: a pair of such texts takes about 30 ms
LARGEST_LOSS = 100.0  # whose perplexity is finite


def perplexity(loss: float) -> Measured:
    """The exponential of a mean loss in nats."""
    return Measured(math.exp(loss) if loss < LARGEST_LOSS else loss if math.isnan(loss) else math.inf, PERPLEXITY)


def reply_scores(replies: Sequence[str], references: Sequence[str]) -> dict[str, Measured]:
    """All measures of some replies, 0 to 100, by the names in `contract.scores.MEASURES`; {} if there are none."""
    if not references:
        return {}
    return {
        "bleu": corpus_bleu(replies, references),
        "chrf": corpus_chrf(replies, references),
        "rouge-l": rouge_l(replies, references),
        "exact-match": exact_match(replies, references),
    }


def corpus_bleu(replies: Sequence[str], references: Sequence[str]) -> Measured:
    """Corpus BLEU by sacrebleu, with the tokenizer that suits the references' script."""
    metric = BLEU(tokenize=script_tokenizer(references))
    return Measured(float(metric.corpus_score(replies, [references]).score), str(metric.get_signature()))


def corpus_chrf(replies: Sequence[str], references: Sequence[str]) -> Measured:
    """Corpus chrF2 by sacrebleu."""
    metric = CHRF()
    return Measured(float(metric.corpus_score(replies, [references]).score), str(metric.get_signature()))


def rouge_l(replies: Sequence[str], references: Sequence[str]) -> Measured:
    """The mean ROUGE-L F1 of the rows."""
    name = script_tokenizer(references)
    tokenizer = BLEU(tokenize=name).tokenizer

    def tokens(text: str) -> list[str]:
        return str(tokenizer(text.lower())).split()[:MOST_TOKENS]

    total = sum(f1_of(tokens(reply), tokens(wanted)) for reply, wanted in zip(replies, references, strict=True))
    tokenized = f"tok:{name}|max:{MOST_TOKENS}|sacrebleu:{sacrebleu.__version__}"
    return Measured(100 * total / len(references), f"nrefs:1|case:lc|{tokenized}|beta:1|agg:mean|version:{VERSION}")


def f1_of(reply: Sequence[str], reference: Sequence[str]) -> float:
    """Harmonic mean of the shares that the longest common subsequence has of both: 2 × LCS / (n + m)."""
    if reply == reference:
        return 1.0
    return 2 * common_length(reply, reference) / (len(reply) + len(reference))


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    A row of the usual table is one integer, a bit for each token of the longer side (Hyyrö, 2004, "Bit-parallel
    LCS-length computation revisited"): 1,000 by 1,000 tokens take about 0.4 ms.
    """
    shorter, longer = sorted((one, other), key=len)
    places: dict[str, int] = {}
    for place, token in enumerate(longer):
        places[token] = places.get(token, 0) | 1 << place
    full = (1 << len(longer)) - 1
    row = full
    for token in shorter:
        if found := row & places.get(token, 0):
            row = ((row + found) | (row - found)) & full
    return len(longer) - row.bit_count()


def exact_match(replies: Sequence[str], references: Sequence[str]) -> Measured:
    """The share of replies, in percent, that equal their references but for white space at both ends."""
    equal = sum(reply.strip() == wanted.strip() for reply, wanted in zip(replies, references, strict=True))
    return Measured(100 * equal / len(references), EXACT_MATCH)


def script_tokenizer(texts: Sequence[str]) -> str:
    """sacrebleu's tokenizer for a script: `zh` for Chinese, `char` for other scripts without spaces, else `13a`.

    Decided by the letters of `texts`: a script counts if it has more than a tenth of them.
    """
    counts = {"HAN": 0, "UNSPACED": 0, "LETTERS": 1}
    for char in "".join(texts)[:200_000]:
        if not char.isalpha():
            continue
        counts["LETTERS"] += 1
        name = unicodedata.name(char, "")
        if name.startswith("CJK"):
            counts["HAN"] += 1
        elif name.startswith(("HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")):
            counts["UNSPACED"] += 1
    if counts["UNSPACED"] * 10 > counts["LETTERS"]:
        return "char"
    return "zh" if counts["HAN"] * 10 > counts["LETTERS"] else "13a"
