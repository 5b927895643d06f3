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
from components.validate.tables import Table, derive

EXAMPLES = 20  # rows named in the report
NAMED = 3  # rows named in a sentence
# Several boxes may belong to one photo, so more rows are asked for than photos are named.
_FORMAT = {"result_format": "SUMMARY", "partial_unexpected_count": 10 * EXAMPLES}


def great_expectations() -> Any:
    """Great Expectations, its usage statistics switched off as they must be: before the import."""
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    import great_expectations

    return great_expectations


def _judge(gx: Any, context: Any, name: str, table: Table, wanted: Sequence[Check]) -> list[dict]:
    """Great Expectations' result of each check on one table, in the order of `wanted`."""
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
    context.data_sources.delete(name)  # which would keep the table
    by_name = {r.expectation_config.meta["check"]: r for r in outcome.results}
    for check_name, result in by_name.items():
        if "element_count" not in result.result:
            raise RuntimeError(f"{check_name}: {result.exception_info}")
    return [by_name[check.name].result for check in wanted]


def _sentence(check: Check, checked: int, failed: int, names: Sequence[str]) -> str:
    if not failed:
        return check.rule
    listed = ", ".join(shown(name) for name in names[:NAMED])
    more = ", ..." if len(names) > NAMED else ""
    return f"{check.fault}: {failed:,} of {checked:,} ({listed}{more})"


def _result(check: Check, table: Table, found: dict) -> Result:
    checked = found["element_count"] - found.get("missing_count", 0)
    failed = found.get("unexpected_count", 0)
    rows = table.ids.iloc[found.get("partial_unexpected_index_list") or []]
    names = tuple(dict.fromkeys(rows.fillna("(no id)").astype(str)))[:EXAMPLES]
    return Result(
        name=check.name,
        severity=check.severity,
        passed=failed == 0,
        rows_checked=checked,
        rows_failed=failed,
        examples=names,
        threshold=check.threshold,
        sentence=_sentence(check, checked, failed, names),
        hint=check.hint,
    )


def validate(manifest: Manifest, root: Path, params: Validate) -> Report:
    """One result per check of a manifest, whose photos and masks must exist below `root`.

    Equal inputs give equal reports.
    """
    gx = great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    every = checks(params)
    results: dict[str, Result] = {}
    for name, table in derive(manifest, root):
        wanted = [check for check in every if check.table == name]
        for check, found in zip(wanted, _judge(gx, context, name, table, wanted), strict=True):
            results[check.name] = _result(check, table, found)
        del table  # before the next one is made
    ordered = tuple(results[check.name] for check in every)
    return Report(root.name, len(manifest.images), len(manifest.boxes), ordered)
