"""Expected failures inside Prefect tasks: a failed state with one line, not a traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run
from prefect.settings import get_current_settings
from prefect.states import Failed

from components.errors import ImlError

P = ParamSpec("P")
T = TypeVar("T")


def step(name: str, *, repeatable: bool = False) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a task of this name whose `ImlError` is a failed state of one line.

    Whoever calls it gets the error raised. Prefect's own cache is off: DVC and the ledger decide
    what is up to date.

    Args:
        name: of its runs; may use the function's arguments, as in "{stage}".
        repeatable: it talks to servers and may be done twice, so that Prefect tries it again as
            often as `PREFECT_TASKS_DEFAULT_RETRIES` says: never in a person's run, some times in
            a deployment's.
    """

    def make(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def quiet(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return function(*args, **kwargs)
            except ImlError as error:
                if repeatable and task_run.run_count <= _retries():
                    raise  # what Prefect tries again
                return Failed(message=error.line(), data=error)

        tries: dict[str, Any] = {} if repeatable else {"retries": 0}
        tasked = task(
            task_run_name=name,
            cache_policy=NO_CACHE,
            persist_result=False,
            **tries,
        )(quiet)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            state = tasked(*args, **kwargs, return_state=True)
            result = state.result(raise_on_failure=False)
            if isinstance(result, BaseException):
                raise result
            return cast(T, result)

        return call

    return make


def _retries() -> int:
    return get_current_settings().tasks.default_retries
