"""Reading untrusted files: any failure is reported as one line about the file."""

import contextlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

from engine.contract.files import STAGED
from engine.contract.messages import InputError
from engine.contract.texts import Phrase

LONGEST = 300  # characters of an error
ADVICE = re.compile(r"huggingface\.co|hf\.co|https?://|pip install|\bhub\b|`token=|internet", re.IGNORECASE)


@contextlib.contextmanager
def reading_untrusted(code: str, path: str | Path) -> Iterator[None]:
    """Wraps the reading of an untrusted file: whatever it raises becomes an error about the file; raises InputError.

    Loading through transformers raises whatever its many code paths raise, and a panic in tokenizers' Rust is not even
    an Exception. Running out of memory is not the file's fault.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise InputError("model_pickle", path=str(path), why=_forbidden(error)) from None
    except Exception as error:
        raise InputError(code, path=str(path), why=_without_advice(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(code, path=str(path), why=one_line(error)) from None


def _without_advice(error: Exception) -> str | Phrase:
    """The text of an error without the library's own advice: to download, install or trust something."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return Phrase("why.own_code")
    if "tiktoken" in text:
        return Phrase("why.vocabulary")
    kept = [part for part in re.split(r"(?<=[.!?]) ", text) if not ADVICE.search(part)]
    return (" ".join(kept) or type(error).__name__)[:LONGEST].rstrip(".")


def _forbidden(error: pickle.UnpicklingError) -> str:
    """What a pickle asked for that a state dict does not need; torch's own message advises trusting it."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it asks for {name[1]}" if name else "it holds something other than named tensors"


def one_line(error: BaseException, limit: int = LONGEST) -> str:
    """The message of an error on one line, with its type if the message is empty, and without a temporary name."""
    said = error.strerror if isinstance(error, OSError) and STAGED in str(error.filename) else error
    text = " ".join(str(said).split())
    return (text or type(error).__name__)[:limit]
