"""The flow `retrain`: one run of the pipeline, on a schedule, on demand or by `iml run`."""

from __future__ import annotations

from prefect.states import Completed, State

from flows import pipeline
from flows.settings import time_limit
from flows.steps import reporting_flow


@reporting_flow("retrain", timeout_seconds=time_limit())
def retrain(
    publish: bool = False, stale_days: int = 14, commit: bool = False
) -> pipeline.Outcome | State:
    """Bring the workspace up to date, register its student, decide on the champion.

    Args:
        publish: as deployments run it, in the clone that `flows.checkout` made: take the inbox
            in, skip when nothing has changed since the last version, and push commit and tag.
        stale_days: a skipped run notifies people when the last version is older.
        commit: commit dvc.lock once the stages are done; a published run always does.
    """
    done = pipeline.bring_up_to_date(publish, stale_days, commit=commit)
    return Completed(name="Skipped", message=done) if isinstance(done, str) else done
