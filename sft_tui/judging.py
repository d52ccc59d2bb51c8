"""A blind comparison of two models: replies to the same prompts, judged without knowing which model gave which."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path
from typing import Annotated, Literal

from engine.contract.bounds import Count, Longest, PathText, as_json
from engine.contract.conversing import MOST_NEW_TOKENS, NewTokens, Sampling
from engine.contract.durable import read_json_as, write_json
from engine.contract.facts import LONGEST_PROMPT, MOST_PROMPTS
from engine.contract.texts import Lang, say
from sft_tui.chat_model import GREEDY, Settings
from sft_tui.text import safe

PROMPTS = 20  # of a comparison
LONGEST_REPLY = 4 * MOST_NEW_TOKENS  # characters
CLEAR = 0.05  # a probability below which a result is hardly chance
Preferred = Literal["", "first", "second", "equal"]
Kind = Annotated[str, Longest(1000)]
Reply = Annotated[str, Longest(LONGEST_REPLY)]


@dataclass(frozen=True)
class Trial:
    """A prompt, the replies of the first and the second model once they are known, and which was preferred.

    `swapped`: the second model's reply was shown as A.
    """

    prompt: Annotated[str, Longest(LONGEST_PROMPT)]
    swapped: bool
    replies: Annotated[tuple[Reply, ...], Longest(2)] = ()
    preferred: Preferred = ""

    @property
    def answered(self) -> bool:
        """Whether both replies are known."""
        return len(self.replies) == 2

    @property
    def shown(self) -> tuple[str, ...]:
        """The replies as A and B."""
        return self.replies[::-1] if self.swapped else self.replies

    def judged(self, better: Literal["A", "B", "="]) -> "Trial":
        """The trial with a judgement of what was shown."""
        if better == "=":
            return replace(self, preferred="equal")
        return replace(self, preferred="second" if (better == "A") == self.swapped else "first")


@dataclass(frozen=True)
class Comparison:
    """The trials of two models, by their names; how they replied, where the prompts are from, and who was left out."""

    names: Annotated[tuple[Kind, ...], Longest(2)] = ()
    trials: Annotated[tuple[Trial, ...], Longest(MOST_PROMPTS)] = ()
    seed: Count = 0
    files: Annotated[tuple[PathText, ...], Longest(2)] = ()
    trained: Count = 0  # prompts of these that were left out, since the training file has them too
    compared: bool = False  # with a training file
    system: Annotated[str, Longest(1 << 20)] = ""
    sampling: Sampling = GREEDY
    max_new_tokens: NewTokens = 256

    @property
    def next(self) -> int:
        """The first trial that is not judged; their number if all are."""
        return next((at for at, one in enumerate(self.trials) if not one.preferred), len(self.trials))

    @property
    def over(self) -> bool:
        """Whether all trials are judged."""
        return bool(self.trials) and self.next == len(self.trials)

    @property
    def settings(self) -> Settings:
        """How the models reply."""
        return Settings(self.system, self.sampling, self.max_new_tokens)

    def changed(self, place: int, trial: Trial) -> "Comparison":
        """The comparison with another trial in a place."""
        return replace(self, trials=(*self.trials[:place], trial, *self.trials[place + 1 :]))


@dataclass(frozen=True)
class Tally:
    """How often the reply of each of two models was preferred, and how often neither; of `trials` prompts."""

    names: tuple[str, str]
    first: int
    second: int
    equal: int
    trials: int

    @property
    def judged(self) -> int:
        """Prompts that have a judgement."""
        return self.first + self.second + self.equal

    @property
    def chance(self) -> float:
        """The probability of a result at least as uneven if neither model were better."""
        return sign_test(self.first, self.second)


def sign_test(first: int, second: int) -> float:
    """The p-value of the two-sided sign test; judgements without a preference do not count."""
    count, fewer = first + second, min(first, second)
    return min(1.0, 2 * sum(comb(count, more) for more in range(fewer + 1)) / (1 << count))


def trials_of(prompts: Sequence[str], seed: int) -> tuple[Trial, ...]:
    """Trials of prompts, of which as many as possible are swapped as are not, by a seed."""
    swapped = [at % 2 == 1 for at in range(len(prompts))]
    random.Random(seed).shuffle(swapped)
    return tuple(Trial(prompt, swap) for prompt, swap in zip(prompts, swapped, strict=True))


def tally(comparison: Comparison) -> Tally:
    """What has been judged so far."""
    counts = [sum(one.preferred == what for one in comparison.trials) for what in ("first", "second", "equal")]
    first, second = (*comparison.names, "", "")[:2]
    return Tally((first, second), counts[0], counts[1], counts[2], len(comparison.trials))


def read(path: Path) -> Comparison | None:
    """The comparison in a file; None if there is none, or it is damaged."""
    found = read_json_as(Comparison, path)
    return found if len(found.names) == 2 and found.trials else None


def write(path: Path, comparison: Comparison) -> None:
    """Writes a comparison; raises OSError. Nothing waits for the disk: a key on the screen would."""
    write_json(path, as_json(comparison), durable=False)


def summary(path: Path) -> Tally | None:
    """The tally of the comparison in a file; None if there is none or nothing of it has been judged."""
    found = read(path)
    counted = tally(found) if found is not None else None
    return counted if counted is not None and counted.judged else None


def in_words(counted: Tally, lang: Lang) -> list[str]:
    """A tally as lines: who was preferred how often, and how likely that is by chance."""
    first, second = (safe(name, 80) for name in counted.names)
    lines = [
        say("blind.preferred", lang, name=name, times=times)
        for name, times in ((first, counted.first), (second, counted.second))
    ]
    lines.append(say("blind.equal", lang, times=counted.equal))
    if counted.judged < counted.trials:
        lines.append(say("blind.so_far", lang, judged=counted.judged, trials=counted.trials))
    if counted.first + counted.second == 0:
        return [*lines, say("blind.no_preference", lang)]
    better = first if counted.first > counted.second else second
    key = "blind.clear" if counted.chance < CLEAR else "blind.unclear"
    return [*lines, say(key, lang, name=better, chance=f"{counted.chance:.3f}")]
