"""The flow `retrain`: one run of the pipeline, on a schedule, on demand or by `iml run`."""

from __future__ import annotations

from prefect import flow
from prefect.states import Completed, Failed, State

from components.core.errors import ImlError
from flows import notify, pipeline
from flows.settings import configure, time_limit


@flow(
    name="retrain",
    persist_result=False,
    timeout_seconds=time_limit(),
    on_failure=[notify.failure],
    on_crashed=[notify.failure],
)
def retrain(
    publish: bool = False, stale_days: int = 14, commit: bool = False
) -> pipeline.Outcome | State:
    """Bring the workspace up to date, register its student, decide on the champion.

    Ends as failed with one line where a stage or a check says no; with a traceback only where
    the program itself is wrong.

    Args:
        publish: as deployments run it, in the clone that `flows.checkout` made: take the inbox
            in, skip when nothing has changed since the last version, and show commit and tag to
            everybody.
        stale_days: a skip tells people when the last version is older.
        commit: commit dvc.lock once the stages are done; a published run always does.
    """
    configure()
    try:
        done = pipeline.bring_up_to_date(publish, stale_days, commit=commit)
    except ImlError as error:
        return Failed(message=error.line(), data=error)
    return Completed(name="Skipped", message=done) if isinstance(done, str) else done
