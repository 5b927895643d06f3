"""Stage `export`: the student's files and its ONNX twin, checked against each other."""

from __future__ import annotations

from pathlib import Path

from components import params
from components.errors import exit_on_error
from components.files import write_json
from components.student import store
from components.student.onnx import check_parity, differences, export

SOURCE, OUT = Path("runs/distill"), Path("runs/export")


def main() -> None:
    """Read params.yaml and `runs/distill`; write `runs/export`."""
    with exit_on_error():
        settings = params.load().export
        student = store.load(SOURCE)
        store.save(student, OUT)
        export(student, OUT / "student.onnx")
        found = differences(student, OUT / "student.onnx", settings.sizes)
        write_json(OUT / "parity.json", {"tolerance": settings.tolerance, "sizes": found})
        check_parity(found, settings.tolerance)


if __name__ == "__main__":
    main()
