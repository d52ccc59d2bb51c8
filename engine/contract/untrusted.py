"""Reading what strangers wrote: whatever goes wrong is said of the file, on one line."""

import contextlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

from engine.contract.messages import InputError

LONGEST = 300  # characters of an error
ADVICE = re.compile(r"huggingface\.co|hf\.co|https?://|pip install|\bhub\b|`token=|internet", re.IGNORECASE)


@contextlib.contextmanager
def reading_untrusted(code: str, path: str | Path) -> Iterator[None]:
    """Around what reads a file of a stranger: whatever it raises says that the file is bad; raises InputError.

    Loading through transformers raises whatever its many paths raise, and a panic of tokenizers' Rust is not even an
    Exception. Lack of memory is no fault of the file.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise InputError("model_pickle", path=str(path), why=_forbidden(error)) from None
    except Exception as error:
        why, why_zh = _without_advice(error)
        raise InputError(code, path=str(path), why=why, why_zh=why_zh) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(code, path=str(path), why=one_line(error)) from None


def _without_advice(error: Exception) -> tuple[str, str]:
    """What an error says, without what a library advises for its own way of working: to fetch, install or trust."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return "it needs code of its own, and foreign code is never run", "它需要运行自带的代码，而外来代码从不执行"
    if "tiktoken" in text:
        return "its vocabulary is damaged, or of a kind that cannot be read", "其词表已损坏，或其格式无法读取"
    kept = [part for part in re.split(r"(?<=[.!?]) ", text) if not ADVICE.search(part)]
    why = (" ".join(kept) or type(error).__name__)[:LONGEST].rstrip(".")
    return why, why


def _forbidden(error: pickle.UnpicklingError) -> str:
    """What a pickle wanted that a state dict has no need of; torch's own words advise to trust it."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it asks for {name[1]}" if name else "it holds something other than named tensors"


def one_line(error: BaseException, limit: int = LONGEST) -> str:
    """The message of an error on one line, with its kind where it says nothing itself."""
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:limit]
