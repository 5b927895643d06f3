"""Expected failures inside Prefect tasks: a failed state with one line, not a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect.states import Failed

from components.errors import ImlError

P = ParamSpec("P")
T = TypeVar("T")


def one_line(function: Callable[P, T]) -> Callable[P, T]:
    """Make a task's `ImlError` a failed state; whoever calls the task gets it raised."""

    @wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            return function(*args, **kwargs)
        except ImlError as error:
            return Failed(message=error.line(), data=error)

    # Prefect turns the state into the exception, so the function's own type holds.
    return cast(Callable[P, T], inner)
