"""One run of the pipeline: every stage in DVC's order, then register, gate, promote.

Works in the current folder, one run at a time, inside a Prefect flow or without one: a person's
workspace for `iml run`, a clean clone for deployments, which also publish what they made.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components import workspace
from components.core import params as parameters
from components.core.errors import CheckError, ImlError, UnavailableError
from components.core.files import read_json, sha256_file, sha256_json, write_json
from components.core.paths import DATA, LAST_RUN, state_dir
from components.registry.chain import NOT_COMPARABLE
from components.workspace import repository
from flows import artifacts, notify, publishing, tracked
from flows.catalogue import Catalogue
from flows.steps import run_id, run_logger, step

if TYPE_CHECKING:
    from components.registry.promotion import Decision

push_outputs = step("push outputs", repeatable=True)(workspace.push)
_SCHEMA = 1  # of the file that keeps the last outcome


@dataclass(frozen=True)
class StageRun:
    """How one stage ended.

    Attributes:
        stage: its name in dvc.yaml.
        ran: False where DVC found its outputs up to date.
        seconds: wall time, DVC's own part included.
    """

    stage: str
    ran: bool
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        stages: each one, in order.
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
        return asdict(self)

    @classmethod
    def parse(cls, row: dict[str, Any]) -> Outcome:
        """From `row`; raises TypeError where it is not one."""
        return cls(**{**row, "stages": [StageRun(**stage) for stage in row["stages"]]})


@step("{stage}")
def run_stage(stage: str, catalogue: Catalogue) -> StageRun:
    """Bring one stage up to date, its lines in the run's log; raises `workspace.StageError`."""
    start = time.monotonic()
    with catalogue.stage(stage) as starting:
        ran = workspace.reproduce(stage, run_logger().info, on_start=starting)
    return StageRun(stage, ran, round(time.monotonic() - start, 1))


@step("begin the MLflow run", repeatable=True)
def begin_tracking(run: tracked.Run) -> None:
    """Begin the MLflow run that the stages log into."""
    run_logger().info(f"MLflow run: {run.begin()}")


@step("register", repeatable=True)
def register(
    params: parameters.Params, source: str, run_id: str | None, *, pin: bool
) -> tuple[int, bool]:
    """Register the workspace's student with its MLflow run, unless it is registered."""
    # The registry's imports take seconds; a run that a stage stops does without them.
    from flows import candidate

    return candidate.register(params, run_logger().warning, source, run_id, pin=pin)


@step("decide", repeatable=True)
def decide(params: parameters.Params, version: int) -> Decision:
    """Apply the gates and move the champion, or say why not."""
    from flows import candidate

    return candidate.decide(params, version)


def _stages(
    params: parameters.Params, changed: dict[str, Any], catalogue: Catalogue, run: tracked.Run
) -> list[StageRun]:
    """Bring all stages up to date; where `dvc status` found no change, none is started."""
    names = workspace.stages()
    data = [name for name in changed if name.endswith(".dvc")]
    if data:
        # Its photos would be in no cache, no remote and no commit: nobody could audit the version.
        stays = workspace.imported(Path(data[0]).stem)
        take = f"`dvc commit -f {data[0]}`"
        if stays:
            take = f"`dvc update {data[0]}` once {stays} has the same"
        raise CheckError(
            f"the data differ from {', '.join(data)}",
            hint=f"take them in with {take}, or undo with `dvc checkout`",
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
    """Warn before the training if no version can be promoted by these test photos."""
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
        from components.lineage import record  # takes seconds, and is rarely needed

        recorded = record.teacher() if stage == "pseudo_label" else record.backbone()
        if sha256_file(path) != recorded["sha256"]:
            raise CheckError(
                f"the file has changed since stage {stage} read it",
                where=path,
                hint="give it a new name, here and in params.yaml",
            )
    if params.pseudo_label.teacher.startswith("hf:") and "pseudo_label" not in changed:
        _check_folder(params.pseudo_label.teacher)


def _check_folder(teacher: str) -> None:
    """As `_check_weights`, of a teacher that is a folder of files."""
    from components.lineage import record
    from components.pseudo_label.hub import Folder
    from components.pseudo_label.registry import get

    weights = get(teacher).weights
    if isinstance(weights, Folder) and weights.digest() not in (None, record.teacher()["sha256"]):
        raise CheckError(
            "its files have changed since stage pseudo_label read them",
            where=str(weights.path),
            hint="give the folder a new name, here and in params.yaml",
        )


def _check_key(params: parameters.Params) -> None:
    """Refuse, before the stages run, to work on without the key that has signed before."""
    from components.registry import signing  # cryptography; help and no-op runs do without it
    from components.registry.ledger import Ledger

    with suppress(UnavailableError):  # registering says so, and tries again
        signing.check_key(lambda: bool(Ledger().rows(params.promotion.model)))


def _run(
    params: parameters.Params, changed: dict[str, Any], *, publish: bool, commit: bool
) -> Outcome:
    """Stages, outputs, commit, version, gates: each names only what is safe already."""
    catalogue = Catalogue(params.promotion.model, run_id())
    with tracked.run(params, "deployment retrain" if publish else "iml run") as run:
        stages = _stages(params, changed, catalogue, run)
        push_outputs(params.datasets)  # before anything names them
        if publish or commit:
            from components.registry import signing

            key = signing.publish()
            if publish:
                publishing.commit_results(params)
            else:
                repository.commit_lock(publishing.commit_message(params), str(key))
        with catalogue.decisions():
            version, new = register(params, run.source, run.id, pin=not publish)
            decision = decide(params, version)
    return Outcome(
        stages=stages,
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

    The arguments are those of `flows.retrain`.

    Returns:
        The outcome, or why a deployment's run was skipped.

    Raises:
        ImlError: a stage or a check says no; one line.
    """
    from components.registry import beginning

    params = parameters.load()
    with workspace.exclusive():
        beginning.check(params.promotion.model, published=publish)
        if publish:
            publishing.fetch()
            publishing.take_inbox(params)
        workspace.require(params.datasets)
        _check_key(params)
        changed = workspace.changed(params.datasets)
        _check_weights(params, changed)
        if publish and not changed and (reason := publishing.unchanged(params, stale_days)):
            return reason
        outcome = _run(params, changed, publish=publish, commit=commit)
        artifacts.show(outcome.row(), params.evaluate.datasets)
        # A run that was cut off after it registered notified nobody; the tag, made last, shows it.
        cut_off = publish and not repository.has_tag(outcome.model, outcome.version)
        _notify(outcome, new=outcome.registered or cut_off)
        if publish:
            publishing.tag_version(outcome.model, outcome.version)
        else:
            _remember(params, outcome)
    return outcome


def _notify(outcome: Outcome, *, new: bool) -> None:
    """Notify people of a new champion, and of a new version that did not become it."""
    if outcome.promoted and (new or outcome.replaced):
        notify.send("promoted", outcome.sentence)
    elif new and outcome.awaiting:
        notify.send("awaiting approval", outcome.sentence)
    elif new and not outcome.promoted:
        notify.send("rejected", outcome.sentence)


def finished(params: parameters.Params, *, commit: bool = False) -> Outcome | None:
    """The outcome of the last `iml run` here, if a run would change nothing.

    Neither what the stages read has changed since, nor dvc.lock, commit, gates and ledger. Imports
    nothing heavy.

    Args:
        params: params.yaml.
        commit: whether dvc.lock should be committed, too.
    """
    try:
        last = read_json(state_dir() / LAST_RUN)
        if last["schema"] != _SCHEMA or last["key"] != _key(params):
            return None
        outcome = Outcome.parse(last["outcome"])
        if any(gate.get("value") == NOT_COMPARABLE for gate in outcome.gates):
            return None  # the champion may have come back since
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


def _key(params: parameters.Params) -> str:
    """Hash of what a decision depends on, beside what `dvc status` compares."""
    from components.registry.ledger import Ledger

    rows = Ledger().rows(params.promotion.model)
    return sha256_json(
        {
            "lock": workspace.lock_hash(),
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
        state_dir() / LAST_RUN,
        {
            "schema": _SCHEMA,
            "time": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "key": _key(params),
            "outcome": replace(outcome, stages=stages, replaced=None).row(),
        },
    )
