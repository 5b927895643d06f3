"""The flow `audit`: the champion and a sample of older versions, deep, every week.

It fails with one line where something is broken or missing, which is what notifications listen to.
Pages and JSON of the last run lie under the state folder in `audit/`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect import flow
from prefect.states import Failed, State

from components.core import params as parameters
from components.core.errors import CheckError, ImlError
from components.core.files import write_json, write_text
from components.core.paths import AUDITS, state_dir
from flows import notify
from flows.settings import configure
from flows.steps import run_logger, step

if TYPE_CHECKING:
    from components.lineage.verdict import Audit


@dataclass(frozen=True)
class Audited:
    """What an audit of one version came to.

    Attributes:
        version: the version.
        verdict: verified | broken | unverifiable.
        sentence: the outcome for people.
    """

    version: int
    verdict: str
    sentence: str

    def row(self) -> dict[str, Any]:
        """As plain JSON."""
        return vars(self)


def choose(model: str, sample: int, seed: int) -> list[int]:
    """The champion and some older versions, drawn anew by each seed.

    Raises:
        CheckError: the model has no version.
    """
    from components.registry import chain
    from components.registry.chain import Event
    from components.registry.ledger import Ledger

    rows = Ledger().rows(model)
    champion = chain.champion(rows)
    born = sorted({row.version for row in rows if row.event == Event.REGISTERED})
    if not born:
        raise CheckError(f"{model} has no version to audit", hint="run `iml run`")
    others = [version for version in born if version != champion]
    # Which versions are looked at must not be foreseeable from the code alone.
    drawn = random.Random(seed).sample(others, min(sample, len(others)))  # noqa: S311
    return [*([champion] if champion else []), *sorted(drawn)]


@step("audit {model}/{version}")
def audit_version(model: str, version: int) -> Audited:
    """Audit one version in depth and write its page."""
    from components.lineage.audit import audit, render
    from components.lineage.collect import collect

    with collect(f"{model}/{version}") as evidence:
        answer: Audit = audit(evidence, deep=True)
    folder = state_dir() / AUDITS
    write_text(folder / f"{model}-{version}.html", render(answer))
    write_json(folder / f"{model}-{version}.json", answer.row())
    run_logger().info(answer.sentence())
    return Audited(version, str(answer.verdict), answer.sentence())


@flow(
    name="audit",
    persist_result=False,
    on_failure=[notify.failure],
    on_crashed=[notify.failure],
)
def audit(sample: int = 3, seed: int | None = None) -> list[Audited] | State:
    """Audit the champion and `sample` older versions of the workspace's model.

    Args:
        sample: how many versions besides the champion.
        seed: of the draw; by default another one each time.
    """
    configure()
    try:
        model = parameters.load().promotion.model
        chosen = choose(model, sample, random.randrange(2**32) if seed is None else seed)  # noqa: S311
        done = [audit_version(model, version) for version in chosen]
    except ImlError as error:
        return Failed(message=error.line(), data=error)
    wrong = [answer for answer in done if answer.verdict != "verified"]
    if wrong:
        more = f" (and {len(wrong) - 1} more versions)" if len(wrong) > 1 else ""
        problem = CheckError(f"{wrong[0].sentence}{more}")
        return Failed(message=problem.line(), data=problem)
    return done
