"""One run of the pipeline: every stage in DVC's order, then register, gate, promote.

Works in the folder we stand in, one run at a time, inside a Prefect flow or without one: a
person's for `iml run`, and a clean clone for deployments, which also publish what they made.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import workspace
from components.core import params as parameters
from components.core.errors import CheckError, ImlError
from components.core.files import read_json, sha256_bytes, sha256_file, sha256_json, write_json
from components.core.paths import DATA, LAST_RUN, state_dir
from components.workspace import repository
from flows import artifacts, notify, publishing, tracked
from flows.catalogue import Catalogue
from flows.stages import StageRun, run_stage
from flows.steps import run_id, run_logger, step

if TYPE_CHECKING:
    from components.registry.promotion import Decision

_SCHEMA = 1  # of the file that keeps the last outcome


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        stages: what became of each, in order.
        registered: whether the version is new in the registry.
        gates: verdicts as plain rows.
        promoted: whether the version is champion now and passed every gate.
        replaced: the champion it took over from in this run, if any.
        awaiting: whether it passed every gate and a person has to decide.
        sentence: the outcome for people.
    """

    stages: list[StageRun]
    model: str
    version: int
    registered: bool
    gates: list[dict[str, Any]]
    promoted: bool
    replaced: int | None
    awaiting: bool
    sentence: str

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**vars(self), "stages": [stage.row() for stage in self.stages]}

    @classmethod
    def parse(cls, row: dict[str, Any]) -> Outcome:
        """From `row`; raises TypeError where it is not one."""
        return cls(**{**row, "stages": [StageRun(**stage) for stage in row["stages"]]})


@step("begin the MLflow run", repeatable=True)
def begin_tracking(run: tracked.Run) -> None:
    """Begin the MLflow run that the stages log into."""
    run_logger().info(f"MLflow run: {run.begin()}")


@step("push outputs", repeatable=True)
def push_outputs(params: parameters.Params) -> None:
    """Copy data and outputs to the DVC remote before anything names them."""
    workspace.push(params.datasets)


@step("register", repeatable=True)
def register(params: parameters.Params, source: str, run_id: str | None) -> tuple[int, bool]:
    """Register the workspace's student with its MLflow run, unless it is registered."""
    # The registry's imports take seconds; a run that a stage stops does without them.
    from flows import candidate

    return candidate.register(params, run_logger().warning, source, run_id)


@step("decide", repeatable=True)
def decide(params: parameters.Params, version: int) -> Decision:
    """Apply the gates and move the champion, or say why not."""
    from flows import candidate

    return candidate.decide(params, version)


def _stages(
    params: parameters.Params, changed: dict[str, Any], catalogue: Catalogue, run: tracked.Run
) -> list[StageRun]:
    """Bring all stages up to date; one `dvc status` has decided that none has anything to do."""
    names = workspace.stages()
    moved = [name for name in changed if name.endswith(".dvc")]
    if moved:
        # Its photos would be in no cache, no remote and no commit: nobody could audit the version.
        raise CheckError(
            f"the data differ from {', '.join(moved)}",
            hint=f"take them in with `dvc commit {moved[0]}`, or undo with `dvc checkout`",
        )
    if not changed:
        run_logger().info("nothing has changed since the last run")
        return [StageRun(name, False, 0.0) for name in names]
    begin_tracking(run)
    done = []
    with run.stages():
        for name in names:
            done.append(run_stage(name, catalogue))
            run.seconds(name, done[-1].seconds)
            if name == "prepare":
                _warn_of_test_photos(params)
    return done


def _warn_of_test_photos(params: parameters.Params) -> None:
    """Say before the training that no version can be promoted by these test photos."""
    from components.evaluate import source  # pandas, which a run with nothing to do can spare

    if why := source.undecidable(source.deciding(params)):
        run_logger().warning(f"{DATA / params.gate_dataset}: {why}")


def _check_weights(params: parameters.Params, changed: dict[str, Any]) -> None:
    """Refuse a file of first weights that is no longer what its stage read.

    DVC watches the path that params.yaml names, not the file: the old student would pass for new.
    """
    named = {
        "pseudo_label": params.pseudo_label.checkpoint,
        "distill": params.distill.student.weights,
    }
    for stage, path in named.items():
        if stage in changed or not Path(path).is_file():
            continue
        from components.lineage import record  # takes seconds, and few need it

        said = record.teacher() if stage == "pseudo_label" else record.backbone()
        if sha256_file(path) != said["sha256"]:
            raise CheckError(
                f"the file has changed since stage {stage} read it",
                where=path,
                hint="give it a new name, here and in params.yaml",
            )


def _run(
    params: parameters.Params, changed: dict[str, Any], *, publish: bool, commit: bool
) -> Outcome:
    """Stages, outputs, commit, version, gates: each names only what is safe already."""
    catalogue = Catalogue(params.promotion.model, run_id())
    with tracked.run(params, "deployment retrain" if publish else "iml run") as run:
        done = _stages(params, changed, catalogue, run)
        push_outputs(params)
        if publish:
            publishing.commit_results(params)
        elif commit:
            repository.commit_lock(publishing.commit_message(params))
        with catalogue.decisions():
            version, new = register(params, run.source, run.id)
            decision = decide(params, version)
    return Outcome(
        stages=done,
        model=params.promotion.model,
        version=version,
        registered=new,
        gates=[gate.row() for gate in decision.gates],
        promoted=decision.promoted and all(gate.passed for gate in decision.gates),
        replaced=decision.replaced,
        awaiting=decision.awaiting,
        sentence=decision.sentence,
    )


def bring_up_to_date(
    publish: bool = False, stale_days: int = 14, *, commit: bool = False
) -> Outcome | str:
    """Bring the workspace up to date, register its student, decide on the champion.

    Args:
        publish: as deployments run it, in the clone that `flows.checkout` made: take the inbox
            in, skip when nothing has changed since the last version, and show commit and tag to
            everybody.
        stale_days: a skip tells people when the last version is older.
        commit: commit dvc.lock once the stages are done.

    Returns:
        The outcome, or why a deployment's run was skipped.

    Raises:
        ImlError: a stage or a check says no; one line.
    """
    params = parameters.load()
    with workspace.exclusive():
        if publish:
            publishing.take_inbox(params)
        workspace.require(params.datasets)
        changed = workspace.changed(params.datasets)
        _check_weights(params, changed)
        if publish and not changed and (reason := publishing.unchanged(params, stale_days)):
            return reason
        outcome = _run(params, changed, publish=publish, commit=commit)
        artifacts.show(outcome.row(), params.evaluate.datasets)
        # A run that was cut off after it registered told nobody; the tag, made last, shows it.
        finished = not publish or repository.has_tag(outcome.model, outcome.version)
        _tell(outcome, new=outcome.registered or not finished)
        if publish:
            publishing.tag_version(outcome.model, outcome.version)
        _remember(params, outcome)
    return outcome


def _tell(outcome: Outcome, *, new: bool) -> None:
    """Tell people of a new champion, and of a new version that did not become it."""
    if outcome.promoted and (new or outcome.replaced):
        notify.send("promoted", outcome.sentence)
    elif new and outcome.awaiting:
        notify.send("awaiting approval", outcome.sentence)
    elif new and not outcome.promoted:
        notify.send("rejected", outcome.sentence)


def finished(params: parameters.Params, *, commit: bool = False) -> Outcome | None:
    """The outcome of the last run here, if a run would change nothing; imports nothing heavy.

    Nothing that the stages read has changed, nor dvc.lock, commit, gates and ledger since.

    Args:
        params: params.yaml.
        commit: whether dvc.lock should be committed, too.
    """
    try:
        last = read_json(_last_run())
        if last["schema"] != _SCHEMA or last["key"] != _key(params):
            return None
        outcome = Outcome.parse(last["outcome"])
        when = str(last["time"])
    except (ImlError, KeyError, TypeError):
        return None
    if commit and not workspace.lock_committed():
        return None
    changed = workspace.changed(params.datasets)
    _check_weights(params, changed)
    if changed:
        return None
    unchanged = f"Nothing to do: nothing has changed since the run of {when}."
    return replace(outcome, registered=False, sentence=f"{unchanged} {outcome.sentence}")


def _last_run() -> Path:
    return state_dir() / LAST_RUN


def _key(params: parameters.Params) -> str:
    """Hash of what a decision depends on, beside what `dvc status` compares."""
    from components.registry.ledger import Ledger

    rows = Ledger().rows(params.promotion.model)
    return sha256_json(
        {
            "lock": sha256_bytes(workspace.lock_text().encode()),
            "promotion": params.promotion.model_dump(),
            "commit": workspace.git_commit(),
            "dirty": workspace.git_dirty(),
            "ledger": rows[-1].hash if rows else None,
            "store": os.environ.get("MLFLOW_TRACKING_URI", ""),
        }
    )


def _remember(params: parameters.Params, outcome: Outcome) -> None:
    """Keep the outcome, for a next run that finds nothing to do."""
    stages = [replace(stage, ran=False, seconds=0.0) for stage in outcome.stages]
    write_json(
        _last_run(),
        {
            "schema": _SCHEMA,
            "time": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "key": _key(params),
            "outcome": replace(outcome, stages=stages, replaced=None).row(),
        },
    )
