"""Jinja's sandbox without work that is done in one piece of any length.

While Python computes `9 ** (9 ** 9)`, no other thread of the process runs, so that none can give it up.
"""

from collections.abc import Iterable
from typing import Any

from jinja2 import Environment
from jinja2.exceptions import SecurityError
from jinja2.filters import do_round, sync_do_sum
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import pass_environment

SANDBOX = ImmutableSandboxedEnvironment.__name__  # by which transformers knows the class
MOST_BITS = 1 << 12  # of a whole number
MOST_DECIMALS = 1 << 10  # a power of ten has up to 4 bits for each


class LargeNumberError(SecurityError):
    """A template computes a whole number of more than `MOST_BITS` bits."""


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """The sandbox of transformers in which products, powers and divisions of whole numbers have a limit.

    Other operations take about as long as their operands are large, and the memory of a rendering is limited.
    """

    intercepted_binops = frozenset(("*", "**", "//", "%"))

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.filters |= {"round": _round, "sum": _sum}
        self.tests["divisibleby"] = _divisible

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The product, power, quotient or rest; raises LargeNumberError."""
        _require_small(operator, left, right)
        return super().call_binop(context, operator, left, right)


def _require_small(operator: str, left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if bits > MOST_BITS:
            raise LargeNumberError


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    if abs(precision) > MOST_DECIMALS:
        raise LargeNumberError
    return do_round(value, precision, method)


@pass_environment
def _sum(environment: Environment, iterable: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    """The sum, between whose steps other threads run: each addition of lists copies all before it."""
    return sync_do_sum(environment, (one for one in iterable), attribute, start)


def _divisible(value: Any, number: Any) -> bool:
    _require_small("%", value, number)
    return bool(value % number == 0)


def use_bounded_sandbox() -> None:
    """Makes transformers compile chat templates in this process in the bounded sandbox."""
    from transformers.utils import chat_template_utils

    names = vars(chat_template_utils)
    if names[SANDBOX] is not BoundedSandbox:
        names[SANDBOX] = BoundedSandbox
        chat_template_utils._compile_jinja_template.cache_clear()
