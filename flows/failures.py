"""Expected failures inside Prefect tasks: a failed state with one line, not a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect.states import Failed, State

from components.errors import ImlError

P = ParamSpec("P")
T = TypeVar("T")


def one_line(function: Callable[P, T]) -> Callable[P, T | State]:
    """Make a task's `ImlError` a failed state; whoever calls the task still gets it raised."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T | State:
        try:
            return function(*args, **kwargs)
        except ImlError as error:
            return Failed(message=error.line(), data=error)

    return inner
