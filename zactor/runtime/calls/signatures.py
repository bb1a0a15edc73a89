"""Signatures as text: what a handle knows of its methods' parameters, small enough to travel in it.

    def f(self, a, b=1, *rest, c, d=2, **others)   "a b= *rest c d= **others"

`/` and `*` stand for themselves. Annotations and defaults do not travel.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from inspect import Parameter
from typing import Any

UNKNOWN = "*? **?"
_PREFIX: dict[Any, str] = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}


def describe(function: Any, *, skip_first: bool) -> str:
    """Return the text of a function's parameters. `skip_first` leaves `self` out."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return UNKNOWN
    if skip_first and parameters and parameters[0].kind is not Parameter.VAR_POSITIONAL:
        del parameters[0]
    words = []
    has_star = False
    positional_only = [p for p in parameters if p.kind is Parameter.POSITIONAL_ONLY]
    for parameter in parameters:
        if parameter.kind is Parameter.KEYWORD_ONLY and not has_star:
            words.append("*")
            has_star = True
        has_star = has_star or parameter.kind is Parameter.VAR_POSITIONAL
        default = "" if parameter.default is Parameter.empty else "="
        words.append(f"{_PREFIX.get(parameter.kind, '')}{parameter.name}{default}")
        if positional_only and parameter is positional_only[-1]:
            words.append("/")
    return " ".join(words)


@lru_cache(maxsize=1024)
def signature(text: str) -> inspect.Signature:
    """Return the signature that `describe` made text of."""
    parameters: list[Parameter] = []
    kind: Any = Parameter.POSITIONAL_OR_KEYWORD
    if text == UNKNOWN:
        return inspect.Signature(
            [
                Parameter("args", Parameter.VAR_POSITIONAL),
                Parameter("kwargs", Parameter.VAR_KEYWORD),
            ]
        )
    for word in text.split():
        if word == "/":
            parameters = [p.replace(kind=Parameter.POSITIONAL_ONLY) for p in parameters]
        elif word == "*":
            kind = Parameter.KEYWORD_ONLY
        elif word.startswith("**"):
            parameters.append(Parameter(word[2:], Parameter.VAR_KEYWORD))
        elif word.startswith("*"):
            parameters.append(Parameter(word[1:], Parameter.VAR_POSITIONAL))
            kind = Parameter.KEYWORD_ONLY
        else:
            default = None if word.endswith("=") else Parameter.empty
            parameters.append(Parameter(word.removesuffix("="), kind, default=default))
    return inspect.Signature(parameters)


@lru_cache(maxsize=1024)
def positional_range(text: str) -> tuple[int, float]:
    """Return how few and how many positional arguments alone will do."""
    least = 0
    most: float = 0
    for parameter in signature(text).parameters.values():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            most = float("inf")
        elif parameter.kind is Parameter.KEYWORD_ONLY:
            if parameter.default is Parameter.empty:
                return 0, -1
        elif parameter.kind is not Parameter.VAR_KEYWORD:
            most += 1
            least += parameter.default is Parameter.empty
    return least, most
