"""The flow `audit`: the champion and a sample of older versions, deep, every week.

It fails with one line where something is broken or missing, and notifies. Pages and JSON of the
last run are in `audit/` below the state folder.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from components.core import params as parameters
from components.core.errors import CheckError
from components.core.files import write_json, write_text
from components.core.paths import AUDITS, state_dir
from flows.steps import reporting_flow, run_logger, step

if TYPE_CHECKING:
    from components.lineage.verdict import Audit


def choose(model: str, sample: int, seed: int) -> list[int]:
    """The champion and some older versions, drawn by `seed`.

    Raises:
        CheckError: the model has no version.
    """
    from components.registry import chain
    from components.registry.chain import Event
    from components.registry.ledger import Ledger

    rows = Ledger().rows(model)
    champion = chain.champion(rows)
    versions = sorted({row.version for row in rows if row.event == Event.REGISTERED})
    if not versions:
        raise CheckError(f"{model} has no version to audit", hint="run `iml run`")
    others = [v for v in versions if v != champion and not chain.withdrawn(rows, v)]
    # Which versions are looked at must not be foreseeable from the code alone.
    drawn = random.Random(seed).sample(others, min(sample, len(others)))  # noqa: S311
    return [*([champion] if champion else []), *sorted(drawn)]


@step("audit {model}/{version}")
def audit_version(model: str, version: int) -> Audit:
    """Audit one version in depth and write its page."""
    from components.lineage.audit import audit, render
    from components.lineage.collect import collect

    with collect(f"{model}/{version}") as evidence:
        answer = audit(evidence, deep=True)
    folder = state_dir() / AUDITS
    write_text(folder / f"{model}-{version}.html", render(answer))
    write_json(folder / f"{model}-{version}.json", answer.row())
    run_logger().info(answer.sentence())
    return answer


@reporting_flow("audit")
def audit(sample: int = 3, seed: int | None = None) -> list[Audit]:
    """Audit the champion and `sample` older versions of the workspace's model.

    Args:
        sample: how many versions besides the champion.
        seed: of the draw; by default another one each time.
    """
    model = parameters.load().promotion.model
    chosen = choose(model, sample, random.randrange(2**32) if seed is None else seed)  # noqa: S311
    done = [audit_version(model, version) for version in chosen]
    wrong = [answer for answer in done if answer.verdict != "verified"]
    if wrong:
        more = f" (and {len(wrong) - 1} more versions)" if len(wrong) > 1 else ""
        raise CheckError(f"{wrong[0].sentence()}{more}")
    return done
