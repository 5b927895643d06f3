"""Flows and steps: what an `ImlError` does to a run.

A step is a task inside a Prefect flow and a plain call without one. `iml run` on its own needs no
Prefect, whose import and temporary server take longer than a run that has nothing to do; so
nothing here imports it before a flow does.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from components.core.errors import ImlError, UnavailableError
from flows import notify
from flows.settings import configure

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.states import State

P = ParamSpec("P")
T = TypeVar("T")


def reporting_flow(
    name: str, **options: Any
) -> Callable[[Callable[P, T]], Flow[P, T | State[Any]]]:
    """Make a function a flow of this name; people are notified when it fails or crashes.

    An `ImlError` is a failed state of one line; anything else is a bug and has its traceback. The
    function itself, which needs no server, is `inspect.unwrap(flow.fn)`.

    Args:
        name: of the flow.
        options: further ones of Prefect's `flow`.
    """
    from prefect import flow
    from prefect.states import Failed
    from prefect.utilities.hashing import file_hash

    def make(function: Callable[P, T]) -> Flow[P, T | State[Any]]:
        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> T | State[Any]:
            configure()
            try:
                return function(*args, **kwargs)
            except ImlError as error:
                return Failed(message=error.line(), data=error)

        hooks: dict[str, Any] = {"on_failure": [notify.failure], "on_crashed": [notify.failure]}
        version = file_hash(inspect.getfile(function))  # Prefect would take that of this module
        return flow(name=name, version=version, persist_result=False, **hooks, **options)(run)

    return make


def in_flow() -> bool:
    """Whether a Prefect flow is calling us."""
    if "prefect" not in sys.modules:
        return False
    from prefect.context import FlowRunContext

    return FlowRunContext.get() is not None


def run_id() -> str | None:
    """The id of the flow's run; None without a flow."""
    if not in_flow():
        return None
    from prefect.runtime import flow_run

    return str(flow_run.id)


def run_logger() -> logging.Logger | logging.LoggerAdapter[Any]:
    """The log of the flow's run; without a flow, the logger `iml`."""
    if not in_flow():
        return logging.getLogger("iml")
    from prefect import get_run_logger

    return get_run_logger()


def step(name: str, *, repeatable: bool = False) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a task of this name whose `ImlError` is a failed state of one line.

    Whoever calls it gets the error raised. Prefect's own cache is off: DVC and the ledger decide
    what is up to date. Outside a flow the function is called as it is.

    Args:
        name: of its runs; may use the function's arguments, as in "{stage}".
        repeatable: it talks to servers and may be done twice: where one does not answer
            (UnavailableError), and for no other reason, Prefect tries again as often as
            `PREFECT_TASKS_DEFAULT_RETRIES` says: never in `iml run`, several times in a deployment.
    """

    def make(function: Callable[P, T]) -> Callable[P, T]:
        as_task = cache(lambda: _task(function, name, repeatable))

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            if not in_flow():
                return function(*args, **kwargs)
            state = as_task()(*args, **kwargs, return_state=True)
            result = state.result(raise_on_failure=False)
            if isinstance(result, BaseException):
                raise result
            return cast(T, result)

        return call

    return make


def _task(function: Callable[..., Any], name: str, repeatable: bool) -> Any:
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.states import Failed

    @wraps(function)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ImlError as error:
            return Failed(message=error.line(), data=error)

    def worthwhile(_task: Any, _run: Any, state: State[Any]) -> bool:
        return repeatable and isinstance(state.data, UnavailableError)

    options: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
    # Without a condition Prefect tries again whatever fails, a returned state too.
    return task(task_run_name=name, retry_condition_fn=worthwhile, **options)(quiet)
