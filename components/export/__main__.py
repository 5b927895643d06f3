"""Stage `export`: the student's files and its ONNX twin, checked against each other."""

from __future__ import annotations

import torch

from components.core import params
from components.core.errors import exit_on_error
from components.core.files import write_json
from components.core.paths import DISTILLED, EXPORTED, PARITY
from components.export.onnx import check_parity, differences, save
from components.student import store
from components.student.config import GRAPH


def main() -> None:
    """Read params.yaml and `runs/distill`; write `runs/export`."""
    with exit_on_error():
        settings = params.load().export
        torch.set_num_threads(1)  # parity.json is the same however many cores there are
        student = store.load(DISTILLED)
        save(student, EXPORTED)
        found = differences(student, EXPORTED / GRAPH, settings.sizes)
        write_json(PARITY, {"tolerance": settings.tolerance, "sizes": found})
        check_parity(found, settings.tolerance)


if __name__ == "__main__":
    main()
