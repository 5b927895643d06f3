"""Run the checks with Great Expectations, in memory and without network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.core.params import Validate
from components.data.manifest import Manifest
from components.validate.checks import Check, checks
from components.validate.report import Report, Result, shown
from components.validate.tables import Rows, Table, derive, related

EXAMPLES = 20  # rows named in the report
NAMED = 3  # rows named in a sentence
# Several boxes may belong to one photo, so more rows are asked for than photos are named.
_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": 10 * EXAMPLES}


def great_expectations() -> Any:
    """Great Expectations, its usage statistics switched off as they must be: before the import."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    import great_expectations

    return great_expectations


def _run(gx: Any, context: Any, name: str, table: Table, wanted: Sequence[Check]) -> dict[str, Any]:
    """Great Expectations' result of each check on one table, by the check's name.

    Empties the table.
    """
    suite = gx.ExpectationSuite(name=name)
    for check in wanted:
        expectation = getattr(gx.expectations, check.expectation)
        suite.add_expectation(
            expectation(column=check.column, meta={"check": check.name}, **check.arguments)
        )
    asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
    definition = asset.add_batch_definition_whole_dataframe(name)
    batch = definition.get_batch(batch_parameters={"dataframe": table.frame})
    outcome = batch.validate(suite, result_format=_FORMAT)
    # It keeps the table, and in cycles even then.
    context.data_sources.delete(name)
    table.frame.drop(columns=list(table.frame), inplace=True)
    found = {r.expectation_config.meta["check"]: r for r in outcome.results}
    for check in wanted:
        if "element_count" not in found[check.name].result:
            raise RuntimeError(f"{check.name}: {found[check.name].exception_info}")
    return {check: one.result for check, one in found.items()}


def _result(check: Check, table: Table, found: dict[str, Any]) -> Result:
    checked = found["element_count"] - found.get("missing_count", 0)
    failed = found.get("unexpected_count", 0)
    rows = table.ids.iloc[found.get("partial_unexpected_index_list") or []]
    names = tuple(dict.fromkeys(rows.fillna("(no id)").astype(str)))[:EXAMPLES]
    listed = ", ".join([*map(shown, names[:NAMED]), *(["..."] if len(names) > NAMED else [])])
    return Result(
        name=check.name,
        severity=check.severity,
        passed=failed == 0,
        rows_checked=checked,
        rows_failed=failed,
        examples=names,
        threshold=check.threshold,
        sentence=f"{check.fault}: {failed:,} of {checked:,} ({listed})" if failed else check.rule,
        hint=check.hint,
    )


def validate(
    manifest: Manifest,
    root: Path,
    params: Validate,
    rows: Rows | None = None,
    datasets: Sequence[str] = (),
) -> Report:
    """One result per check of a manifest, whose photos and masks must exist below `root`.

    Equal inputs give equal reports; `rows` as for `components.validate.report.render`, `datasets`
    are the names of its data sets, where `root` is not the only one.
    """
    gx = great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    every = checks(params)
    results: dict[str, Result] = {}
    for name, table in derive(manifest, root, rows or related(manifest)):
        wanted = [check for check in every if check.table == name]
        found = _run(gx, context, name, table, wanted)
        results |= {check.name: _result(check, table, found[check.name]) for check in wanted}
        del table  # before the next one is made
    ordered = tuple(results[check.name] for check in every)
    return Report(
        tuple(datasets) or (root.name,), len(manifest.images), len(manifest.boxes), ordered
    )
