"""What goes wrong on the way to a hub, in words."""

import contextlib
import os
from collections.abc import Iterator

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from engine.contract.messages import InputError
from engine.contract.texts import Phrase
from engine.contract.untrusted import one_line
from engine.obtaining.repository import Repository

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
TOKENS = {"huggingface": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}
ENDPOINTS = {"huggingface": "HF_ENDPOINT", "modelscope": "MODELSCOPE_ENDPOINT"}
SHOWN = 200  # characters


def has_token(repository: Repository) -> bool:
    """Whether requests identify their sender."""
    return any(name.lower() == "authorization" for name in repository.headers())


@contextlib.contextmanager
def reaching(repository: Repository, revision: str) -> Iterator[None]:
    """Wraps requests to a hub: raises InputError saying what failed and what to do."""
    named = {"id": repository.id, "endpoint": repository.endpoint, "token": TOKENS[repository.source]}
    try:
        yield
    except OfflineModeIsEnabled:
        variable = next((name for name in OFFLINE if os.environ.get(name)), OFFLINE[0])
        raise InputError("hub_offline", variable=variable, **named) from None
    except GatedRepoError:
        with_token = has_token(repository)
        raise InputError("hub_gated_account" if with_token else "hub_gated", **named) from None
    except RevisionNotFoundError:
        raise InputError("hub_revision", revision=revision, **named) from None
    except RepositoryNotFoundError as error:
        raise _missing(repository, error.response.status_code, named) from None
    except (HfHubHTTPError, httpx2.HTTPStatusError) as error:
        raise _refused(repository, error.response.status_code, named) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        variable = ENDPOINTS[repository.source]
        raise InputError("hub_unreachable", why=one_line(error, SHOWN), variable=variable, **named) from None
    except OSError as error:
        if error.errno:  # not of the network
            raise
        variable = ENDPOINTS[repository.source]
        raise InputError("hub_unreachable", why=Phrase("why.cut_short"), variable=variable, **named) from None


def _missing(repository: Repository, status: int, named: dict[str, str]) -> InputError:
    """The hub hides private models from others: those look as if they did not exist."""
    if status == 401 and has_token(repository):
        return InputError("hub_token", **named)
    return InputError("hub_missing", **named)


def _refused(repository: Repository, status: int, named: dict[str, str]) -> InputError:
    if status == 404:
        return InputError("hub_missing", **named)
    if status == 401:
        return _missing(repository, status, named)
    if status == 403:
        return InputError("hub_gated_account" if has_token(repository) else "hub_gated", **named)
    return InputError("hub_busy" if status == 429 else "hub_failed", status=status, **named)
