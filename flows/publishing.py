"""What a deployment's run publishes: data taken in, commit, tag; and when it may be skipped."""

from __future__ import annotations

import os

from components import workspace
from components.core.files import read_json
from components.core.params import Params
from components.core.paths import DATA, EVALUATED, METRICS
from components.ingest import inbox
from components.registry import chain
from components.registry.ledger import Ledger
from components.workspace import repository
from flows import notify
from flows.steps import run_logger, step

fetch = step("fetch data and outputs", repeatable=True)(repository.fetch)
push_branch = step("push the branch", repeatable=True)(repository.push)
# By its tag, a version's data and outputs outlast every `dvc gc`.
tag_version = step("tag the version", repeatable=True)(repository.tag)


@step("take the inbox in", repeatable=True)
def take_inbox(params: Params) -> None:
    """Add new batches below `$IML_INBOX` to the first prepared data set and commit them.

    The commit is pushed only with results that passed validation: until then the next run takes
    the same batches in again.
    """
    address = os.environ.get("IML_INBOX", "").strip()
    if not address:
        return
    box = inbox.Inbox(address)
    batches = box.waiting()
    if not batches:
        return
    folder = DATA / params.prepare.datasets[0]
    workspace.require_own(folder)
    repository.unsettle()
    taken = inbox.take(box, batches, folder, params.prepare.max_megapixels)
    for name, batch in taken.items():
        line = f"batch {name}: {batch.added} photos added, {len(batch.rejected)} rejected"
        run_logger().info(f"{line}; {batch.refused}" if batch.refused else line)
    added = sum(batch.added for batch in taken.values())
    # Also where nothing was added: an earlier try may have been cut off after it had added.
    workspace.dvc_add(folder)
    repository.add(f"inbox: {added} photos in {len(taken)} batches", f"{folder}.dvc", inbox.RECORD)
    left_out = [
        f"{name}: {batch.refused or '; '.join(batch.rejected)}"
        for name, batch in taken.items()
        if batch.refused or batch.rejected
    ]
    if left_out:
        notify.send("data refused", "\n".join(left_out))


def unchanged(params: Params, stale_days: int) -> str | None:
    """Why a run may be skipped, or None: nothing differs from when the latest version was made.

    The caller knows from `dvc status` that no stage's data, parameters or code have changed; the
    gates' thresholds are no stage's parameters and are compared here. A version that could not be
    compared with the champion is tried again each time.
    """
    last = repository.last_version(params.promotion.model)
    if last is None or not repository.same(last, "params.yaml"):
        return None
    rows, version = Ledger().rows(params.promotion.model), repository.version_of(last)
    made_again = workspace.lock_hash() in chain.confirmations(rows, version)
    if not (made_again or repository.same(last, "dvc.lock")):
        return None
    if chain.awaits_comparison(rows, version):
        return None
    push_branch()  # what the inbox refused, and merges of the default branch
    days = repository.age(last)
    reason = f"neither data, parameters nor code changed since {last}"
    if days > stale_days:
        notify.send("skipped too long", f"{reason}, {days:.0f} days ago")
    return reason


@step("commit results", repeatable=True)
def commit_results(params: Params) -> str:
    """Commit dvc.lock and metrics; everything they name is in the remote by now."""
    commit = repository.add_results(commit_message(params))
    repository.push()
    return commit


def commit_message(params: Params) -> str:
    """The message of the commit that holds a run's dvc.lock."""
    dataset = params.gate_dataset
    f1 = read_json(EVALUATED / dataset / METRICS)["f1"]["value"]
    shown = "no F1" if f1 is None else f"F1 {f1:.4f}"
    return f"retrain: {shown} on {dataset}"
