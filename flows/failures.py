"""Expected failures inside Prefect tasks: a failed state with one line, not a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Failed

from components.errors import ImlError

P = ParamSpec("P")
T = TypeVar("T")


def step(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a task of this name whose `ImlError` is a failed state of one line.

    Whoever calls it gets the error raised. Prefect's own cache is off: DVC and the ledger decide
    what is up to date. `name` may use the function's arguments, as in "{stage}".
    """

    def make(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def quiet(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except ImlError as error:
                return Failed(message=error.line(), data=error)

        tasked = task(task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(quiet)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            state = tasked(*args, **kwargs, return_state=True)
            result = state.result(raise_on_failure=False)
            if isinstance(result, BaseException):
                raise result
            return cast(T, result)

        return call

    return make
