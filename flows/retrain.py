"""The flow `retrain`: every stage of dvc.yaml in DVC's order, then register, gate, promote.

Runs in the workspace we stand in, one run at a time: a person's for `iml run`, and a clean clone
for deployments, which also publish what they made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import flow, get_run_logger
from prefect.states import Completed, Failed, State

from components import params as parameters
from components import repository, workspace
from components.errors import CheckError, ImlError
from components.files import sha256_file
from flows import artifacts, notify, publishing, tracked
from flows.catalogue import Catalogue
from flows.failures import step
from flows.settings import configure, time_limit
from flows.stages import StageRun, run_stage

if TYPE_CHECKING:
    from components.registry.promotion import Decision


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


@step("begin the MLflow run", repeatable=True)
def begin_tracking(run: tracked.Run) -> None:
    """Begin the MLflow run that the stages log into."""
    get_run_logger().info(f"MLflow run: {run.begin()}")


@step("push outputs", repeatable=True)
def push_outputs() -> None:
    """Copy data and outputs to the DVC remote before anything names them."""
    workspace.push()


@step("register", repeatable=True)
def register(params: parameters.Params, source: str, run_id: str | None) -> tuple[int, bool]:
    """Register the workspace's student with its MLflow run, unless it is registered."""
    # The registry's imports take seconds; a run that a stage stops does without them.
    from flows import candidate

    return candidate.register(params, get_run_logger().warning, source, run_id)


@step("decide", repeatable=True)
def decide(params: parameters.Params, version: int) -> Decision:
    """Apply the gates and move the champion, or say why not."""
    from flows import candidate

    return candidate.decide(params, version)


def _stages(changed: dict[str, Any], catalogue: Catalogue, run: tracked.Run) -> list[StageRun]:
    """Bring all stages up to date; one `dvc status` has decided that none has anything to do."""
    names = workspace.stages()
    moved = [name for name in changed if name.endswith(".dvc")]
    if moved:
        # Its photos would be in no cache, no remote and no commit: nobody could audit the version.
        raise CheckError(
            f"the data differ from {', '.join(moved)}",
            mend=f"take them in with `dvc commit {moved[0]}`, or undo with `dvc checkout`",
        )
    if not changed:
        get_run_logger().info("nothing has changed since the last run")
        return [StageRun(name, False, 0.0) for name in names]
    begin_tracking(run)
    done = []
    with run.stages():
        for name in names:
            done.append(run_stage(name, catalogue))
            run.seconds(name, done[-1].seconds)
    return done


def _check_weights(params: parameters.Params, changed: dict[str, Any]) -> None:
    """Refuse a file of first weights that is no longer what its stage read.

    DVC watches the path that params.yaml names, not the file: the old student would pass for new.
    """
    named = {"pseudo_label": params.pseudo_label.checkpoint, "distill": params.distill.weights}
    for stage, path in named.items():
        if stage in changed or not Path(path).is_file():
            continue
        from components.lineage import record  # takes seconds, and few need it

        said = record.teacher() if stage == "pseudo_label" else record.backbone()
        if sha256_file(path) != said["sha256"]:
            raise CheckError(
                f"the file has changed since stage {stage} read it",
                where=path,
                mend="give it a new name, here and in params.yaml",
            )


def _run(params: parameters.Params, changed: dict[str, Any], publish: bool) -> Outcome:
    """Stages, outputs, commit, version, gates: each names only what is safe already."""
    catalogue = Catalogue(params.promotion.model)
    with tracked.run(params, "deployment retrain" if publish else "iml run") as run:
        done = _stages(changed, catalogue, run)
        push_outputs()
        if publish:
            publishing.commit_results(params)
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


@flow(
    name="retrain",
    persist_result=False,
    timeout_seconds=time_limit(),
    on_failure=[notify.failure],
    on_crashed=[notify.failure],
)
def retrain(publish: bool = False, stale_days: int = 14) -> Outcome | State:
    """Bring the workspace up to date, register its student, decide on the champion.

    Ends as failed with one line where a stage or a check says no; with a traceback only where
    the program itself is wrong.

    Args:
        publish: as deployments run it, in the clone that `flows.checkout` made: take the inbox
            in, skip when nothing has changed since the last version, and show commit and tag to
            everybody.
        stale_days: a skip tells people when the last version is older.
    """
    configure()
    try:
        params = parameters.load()
        with workspace.exclusive():
            if publish:
                publishing.take_inbox(params)
            changed = workspace.changed()
            _check_weights(params, changed)
            if publish and not changed and (reason := publishing.unchanged(params, stale_days)):
                return Completed(name="Skipped", message=reason)
            outcome = _run(params, changed, publish)
            artifacts.show(outcome.row(), params.evaluate.datasets)
            # A run that was cut off after it registered told nobody; the tag, made last, shows it.
            finished = not publish or repository.has_tag(outcome.model, outcome.version)
            _tell(outcome, new=outcome.registered or not finished)
            if publish:
                publishing.tag_version(outcome.model, outcome.version)
    except ImlError as error:
        return Failed(message=error.line(), data=error)
    return outcome


def _tell(outcome: Outcome, *, new: bool) -> None:
    """Tell people of a new champion, and of a new version that did not become it."""
    if outcome.promoted and (new or outcome.replaced):
        notify.send("promoted", outcome.sentence)
    elif new and outcome.awaiting:
        notify.send("awaiting approval", outcome.sentence)
    elif new and not outcome.promoted:
        notify.send("rejected", outcome.sentence)


def retrain_here() -> Outcome:
    """Run the flow and give its outcome; raises what made it fail."""
    state = retrain(return_state=True)
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return cast(Outcome, result)
