"""What an OpenLineage event says of a stage and of each data set, from the facts of dvc.lock."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    data_quality_assertions_dataset,
    data_quality_metrics_input_dataset,
    dataset_version_dataset,
    documentation_job,
    job_type_job,
    schema_dataset,
    source_code_location_job,
)

from components.core.errors import ImlError
from components.lineage.checks.data import BOXES, MANIFEST

PRODUCER = "urn:boxpromptiml:lineage"


@dataclass(frozen=True)
class Facts:
    """Where the facts of an event come from.

    Attributes:
        space: the namespace of jobs and data sets, which is the model's name.
        commit: of the code.
        read: the bytes of a path by its MD5; raises ImlError or OSError where they are not to be
            had, and then the data set's version alone is told.
        validation: gives the result of the stage `validate`.
    """

    space: str
    commit: str
    read: Callable[[str, str], bytes]
    validation: Callable[[], Mapping[str, Any]]


def kind(integration: str, what: str) -> Any:
    """What sort of job it is."""
    return job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration=integration, jobType=what, producer=PRODUCER
    )


def told(text: str) -> Any:
    """A description of a job."""
    return documentation_job.DocumentationJobFacet(description=text, producer=PRODUCER)


def version(name: str) -> Any:
    """The version of a data set."""
    return dataset_version_dataset.DatasetVersionDatasetFacet(name, producer=PRODUCER)


def job(facts: Facts, command: str) -> dict[str, Any]:
    """The facets of a stage's job."""
    code = source_code_location_job.SourceCodeLocationJobFacet(
        type="git", url="urn:git", path="dvc.yaml", version=facts.commit, producer=PRODUCER
    )
    return {
        "sourceCodeLocation": code,
        "jobType": kind("DVC", "STAGE"),
        "documentation": told(command),
    }


def inputs(facts: Facts, stage: Mapping[str, Any]) -> list[InputDataset]:
    """What a stage read; a table's rows and nulls, and the validation's checks of the manifest."""
    return [_input(facts, row) for row in stage["deps"] if "md5" in row]


def outputs(facts: Facts, stage: Mapping[str, Any]) -> list[OutputDataset]:
    """What a stage wrote."""
    return [
        OutputDataset(facts.space, row["path"], facets=_facets(facts, row))
        for row in stage["outs"]
        if "md5" in row
    ]


def _input(facts: Facts, row: Mapping[str, Any]) -> InputDataset:
    quality: dict[str, Any] = {}
    if row["path"] == MANIFEST:
        quality["dataQualityAssertions"] = _assertions(facts.validation())
    if row["path"] in (MANIFEST, BOXES):
        quality |= _counts(facts, row)
    return InputDataset(facts.space, row["path"], facets=_facets(facts, row), inputFacets=quality)


def _read(facts: Facts, row: Mapping[str, Any]) -> io.BytesIO | None:
    try:
        return io.BytesIO(facts.read(row["path"], row["md5"]))
    except (ImlError, OSError):
        return None


def _facets(facts: Facts, row: Mapping[str, Any]) -> dict[str, Any]:
    """Version of a data set and, of a table, its columns."""
    found: dict[str, Any] = {"version": version(row["md5"])}
    table = _read(facts, row) if row["path"].endswith(".parquet") else None
    if table:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name=field.name, type=str(field.type))
            for field in pq.read_schema(table)
        ]
        found["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)
    return found


def _assertions(result: Mapping[str, Any]) -> Any:
    """The validation's checks, as assertions on the manifest."""
    rows = [
        data_quality_assertions_dataset.Assertion(assertion=check["name"], success=check["passed"])
        for check in result.get("details", [])
    ]
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        assertions=rows, producer=PRODUCER
    )


def _counts(facts: Facts, row: Mapping[str, Any]) -> dict[str, Any]:
    """Rows and nulls by column of a table."""
    data = _read(facts, row)
    if data is None:
        return {}
    table: pa.Table = pq.read_table(data)
    columns = {
        name: data_quality_metrics_input_dataset.ColumnMetrics(
            nullCount=table[name].null_count, count=float(table.num_rows)
        )
        for name in table.column_names
    }
    facet = data_quality_metrics_input_dataset.DataQualityMetricsInputDatasetFacet(
        columnMetrics=columns, rowCount=table.num_rows, bytes=row.get("size"), producer=PRODUCER
    )
    return {"dataQualityMetrics": facet}
