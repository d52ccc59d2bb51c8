"""Advice as the screens of runs give it: the key in place of the command that the text names."""

import re
import shlex

COMMAND = re.compile(r"`(sft-tui [^`]{1,600})`")
# The key for a command with these options, each without its value; other options have no key.
KEYS: dict[str, dict[frozenset[str], str]] = {
    "resume": {frozenset(): "r", frozenset({"--apply-fix"}): "f", frozenset({"--epochs"}): "E"},
    "continue": {frozenset(): "p"},
    "pause": {frozenset(): "p"},
    "stop": {frozenset(): "s"},
    "test": {frozenset(): "T"},
    "reply": {frozenset({"--model"}): "i"},
    "runs": {frozenset(): "l"},
    "logs": {frozenset({"--trainer"}): "o"},
}
START_OVER = "a"


def with_keys(advice: str) -> str:
    """Advice with the key of each command that has one; the other commands stay."""
    return COMMAND.sub(lambda found: f"`{_key(found[1]) or found[1]}`", advice)


def _key(command: str) -> str:
    """The key of a command of ours; empty if it has none."""
    try:
        _, name, *words = shlex.split(command)
    except ValueError:
        return ""
    options = frozenset(word.partition("=")[0] for word in words if word.startswith("--")) - {"--logs"}
    if name == "run":
        return START_OVER if "--fresh" in options else ""
    return KEYS.get(name, {}).get(options, "")
