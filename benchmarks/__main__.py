"""`python -m benchmarks`: speed as ratios measured in one run, as a table or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from components.core.errors import exit_on_error
from flows.cli._common import AsJson
from flows.settings import configure

app = typer.Typer(
    help="Benchmarks: ratios measured in one run.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _report(title: str, rows: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console

    from components.core.words import plain
    from flows.cli._common import add_row, new_table

    table = new_table(title, "figure", "value#")
    for name, value in _flat("", rows):
        add_row(table, name, plain(value))
    Console().print(table)


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [row for key, part in value.items() for row in _flat(f"{prefix} {key}", part)]
    if isinstance(value, list):
        return [row for n, part in enumerate(value) for row in _flat(f"{prefix} {n + 1}", part)]
    return [(prefix.strip(), value)]


@app.command()
def pipeline(
    photos: Annotated[int, typer.Option(min=10, help="Photos to generate for `prepare`.")] = 10_000,
    boxes: Annotated[
        int, typer.Option(min=1000, help="Boxes to generate for `validate`.")
    ] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Time `prepare` against bare hashing and decoding, a large validation, and `iml --help`."""
    import tempfile

    from benchmarks.data import bench_prepare
    from benchmarks.validation import bench_validation

    with tempfile.TemporaryDirectory() as folder:
        rows = {"prepare": bench_prepare(photos, Path(folder))}
    rows["validate"] = bench_validation(boxes)
    rows["help"] = _time_help()
    _report("Pipeline", rows, as_json)


@app.command("import")
def import_(
    photos: Annotated[int, typer.Option(min=10, help="Photos to generate, each with a box.")] = (
        100_000
    ),
    as_json: AsJson = False,
) -> None:
    """Time an import of COCO with hard links against only hashing and looking up the same files."""
    import tempfile

    from benchmarks.importing import bench_import

    with tempfile.TemporaryDirectory() as folder:
        rows = bench_import(photos, Path(folder))
    _report("Import", rows, as_json)


@app.command()
def scale(
    rows: Annotated[
        str, typer.Option(help="Numbers of photos to make rows for, comma-separated, ascending.")
    ] = "10000,100000,1000000",
    as_json: AsJson = False,
) -> None:
    """Time and memory of index, prepare, validate and looking up a photo, with their growth."""
    from benchmarks.scale import bench_scale
    from components.core.errors import InputError

    try:
        counts = sorted(int(part) for part in rows.split(","))
    except ValueError:
        raise InputError(
            f"not numbers: {rows!r}", where="--rows", hint="e.g. 10000,100000"
        ) from None
    _report("Scale", bench_scale(counts), as_json)


@app.command()
def audit(
    objects: Annotated[int, typer.Option(min=100, help="Objects to generate.")] = 100_000,
    size: Annotated[int, typer.Option(min=10, help="Mean size of an object, in bytes.")] = 4000,
    as_json: AsJson = False,
) -> None:
    """Time the hashing of a deep audit against `md5sum` and `sha256sum` on the same objects."""
    import tempfile

    from benchmarks.lineage import bench_audit

    with tempfile.TemporaryDirectory() as folder:
        rows = bench_audit(objects, size, Path(folder))
    _report("Audit", rows, as_json)


@app.command()
def teacher(
    data: Annotated[
        Path | None, typer.Option(help="A data set with true masks; generated photos if not given.")
    ] = None,
    jitter: Annotated[str, typer.Option(help="Looseness of the boxes, comma-separated.")] = "0.1",
    limit: Annotated[
        int | None, typer.Option(min=2, help="Number of photos, a seeded sample; default: all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures and a table with one row per mask.")
    ] = None,
    speed: Annotated[bool, typer.Option(help="Measure speed instead of quality.")] = False,
    made: Annotated[int, typer.Option(min=100, help="Photos to generate for the speed.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """Mean IoU of every available teacher with true masks, or the speed of the chosen one."""
    from components.core import params
    from components.core.errors import InputError
    from components.core.files import check_folder
    from flows.cli._common import progress_bars

    if out:
        check_folder(out)
    settings = params.load().pseudo_label
    if speed:
        from benchmarks.teacher_speed import bench_speed

        rows = bench_speed(data, made, settings)
        return _report(f"Speed of {settings.teacher}", rows, as_json)
    if data is None:
        raise InputError("quality needs true masks", where="--data", hint="name a data set")
    from benchmarks.teacher import bench_teacher

    try:
        shares = [float(part) for part in jitter.split(",")]
    except ValueError:
        raise InputError(f"not numbers: {jitter!r}", where="--jitter", hint="e.g. 0,0.1") from None
    with progress_bars() as bar:
        rows = bench_teacher(data, settings, shares, limit, out, bar("photos"))
    _report(f"Teachers on {data}", rows, as_json)


@app.command()
def student(
    peers: Annotated[
        Path | None, typer.Option(help="Folder with the package imdlbenco, for comparison.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Latency of the student against its bare backbone, 512x512, for every tested backbone.

    To compare with published networks: pip install --no-deps --target FOLDER imdlbenco yacs
    """
    from benchmarks.student import bench_student
    from components.core import params
    from components.student.backbones import TESTED

    rows = bench_student(list(TESTED), params.load().distill, peers)
    _report("Student", rows, as_json)


@app.command()
def peer(
    folder: Annotated[Path, typer.Argument(help="Folder with the package imdlbenco.")],
    name: Annotated[str, typer.Option(help="SparseViT or PSCC_Net.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="Of one core, for training.")] = 35,
    as_json: AsJson = False,
) -> None:
    """Train a published network on the prepared photos' true masks; score it as the student is.

    The package: pip install --no-deps --target FOLDER imdlbenco yacs
    """
    from benchmarks.peer_training import SIZES, bench_peer
    from components.core import params
    from components.core.errors import InputError

    if name not in SIZES:
        raise InputError(f"unknown: {name!r}", where="--name", hint=" or ".join(SIZES))
    _report(name, bench_peer(folder, name, minutes, params.load()), as_json)


@app.command()
def answers(
    student: Annotated[Path, typer.Option(help="A student's folder, e.g. runs/export.")],
    data: Annotated[Path, typer.Option(help="A folder of photos.")],
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of photos, a seeded sample; default: all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The greatest differences between the answers of ONNX Runtime and those of torch."""
    from benchmarks.answers import bench_answers
    from flows.cli._common import progress_bars

    with progress_bars() as bar:
        rows = bench_answers(student, data, limit, bar("photos"))
    _report(f"Answers on {data}", rows, as_json)


@app.command()
def training(
    photos: Annotated[int, typer.Option(min=16, help="Photos to make.")] = 256,
    as_json: AsJson = False,
) -> None:
    """Throughput of training epochs against bare steps on data in memory."""
    import tempfile

    from benchmarks.training import bench_training
    from components.core import params

    with tempfile.TemporaryDirectory() as folder:
        rows = bench_training(photos, params.load().distill, Path(folder))
    _report("Training", rows, as_json)


@app.command()
def evaluation(
    photos: Annotated[int, typer.Option(min=16, help="Photos to make.")] = 128,
    as_json: AsJson = False,
) -> None:
    """Throughput of an evaluation against the forward pass alone."""
    import tempfile

    from benchmarks.evaluation import bench_evaluation, forward_only
    from components.core import params
    from components.core.seeds import fix_torch
    from components.student import infer
    from components.student.model import build, configure

    settings = params.load()
    fix_torch(settings.evaluate.seed, settings.evaluate.threads)
    model = build(configure(settings.distill.student), "none").eval()

    def predict(given: Any) -> Any:
        return infer.probabilities(model, given)

    with tempfile.TemporaryDirectory() as folder:
        rows = bench_evaluation(
            photos,
            predict,
            lambda given: forward_only(model, given),
            settings.evaluate,
            Path(folder),
        )
    _report("Evaluation", rows, as_json)


@app.command()
def serving(
    model: Annotated[Path, typer.Option(help="A student's folder.")] = Path("runs/export"),
    clients: Annotated[int, typer.Option(min=1, help="Connections.")] = 64,
    seconds: Annotated[float, typer.Option(min=1, help="Of the load.")] = 60,
    photos: Annotated[int, typer.Option(min=1, help="Photos to make.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Answers a second of `iml serve` under load against the predictor alone; needs wrk."""
    import tempfile

    from benchmarks.serving import bench_serving

    with tempfile.TemporaryDirectory() as folder:
        rows = bench_serving(model, clients, seconds, photos, Path(folder))
    _report("Serving", rows, as_json)


@app.command()
def scoring(
    model: Annotated[Path, typer.Option(help="A student's folder.")] = Path("runs/export"),
    photos: Annotated[int, typer.Option(min=100, help="Photos to put into S3.")] = 10_000,
    keys: Annotated[int, typer.Option(min=100, help="Keys that are only listed.")] = 1_000_000,
    as_json: AsJson = False,
) -> None:
    """Score a growing prefix of a real S3 server: time, memory, and after three kills."""
    import tempfile

    from benchmarks.scoring import bench_listing, bench_scoring

    with tempfile.TemporaryDirectory() as folder:
        rows = {"listed": bench_listing(keys, Path(folder))}
        rows["scored"] = bench_scoring(model, photos, Path(folder))
    _report("Scoring", rows, as_json)


@app.command()
def promotion(
    first: Annotated[Path, typer.Argument(help="images.parquet of one model.")],
    second: Annotated[Path, typer.Argument(help="The same for another model, on the same photos.")],
    column: Annotated[str, typer.Option(help="The column to compare.")] = "f1",
    times: Annotated[int, typer.Option(min=50, help="Test sets to draw for each row.")] = 10_000,
    as_json: AsJson = False,
) -> None:
    """How often the tests against the champion pass, simulated from real per-photo results."""
    import pandas as pd

    from benchmarks.gates import population, simulate
    from components.core import params
    from components.registry.comparison import Trial

    settings = params.load()
    gates = settings.promotion.gates
    rows = simulate(
        population(pd.read_parquet(first), pd.read_parquet(second), column),
        margin=gates.champion_margin,
        true=[-2 * gates.champion_margin, -gates.champion_margin, 0.0, 0.02, 0.05, 0.1],
        groups=[25, 50, 100, 200, 400],
        trial=Trial(gates.alpha, settings.evaluate.bootstrap, settings.evaluate.seed),
        times=times,
    )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console

    from flows.cli._common import add_row, new_table

    names = ("groups", "photos", "true", "not_worse", "better")
    table = new_table("Share of test sets that pass", *names)
    for row in rows:
        shares = (f"{row[name]:.1%}" for name in names[3:])
        add_row(table, str(row["groups"]), str(row["photos"]), f"{row['true']:+.3f}", *shares)
    Console().print(table)


@app.command()
def ranking(
    data: Annotated[Path, typer.Argument(help="A data set's folder.")],
    what: Annotated[
        str, typer.Option(help="doubt: wrong labels found; choice: by gain against at random.")
    ],
    scratch: Annotated[Path, typer.Option(help="Folder for copies, pseudo-masks and students.")],
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    steps: Annotated[int, typer.Option(min=1, help="Of each training, for choice.")] = 300,
    as_json: AsJson = False,
) -> None:
    """What the orders of `iml dataset rank` are worth; started again, it continues.

    The students are those of params.yaml.
    """
    from benchmarks.ranking import bench_choice, bench_doubt
    from components.core import params
    from components.core.errors import InputError

    try:
        numbers = [int(part) for part in seeds.split(",")]
    except ValueError:
        raise InputError(f"not numbers: {seeds!r}", where="--seeds", hint="e.g. 1,2,3") from None
    settings = params.load()
    if what == "choice":
        rows = bench_choice(data, scratch, settings, numbers, steps)
    elif what == "doubt":
        rows = bench_doubt(data, scratch, settings, numbers)
    else:
        raise InputError(f"unknown: {what!r}", where="--what", hint="doubt or choice")
    _report(f"Ranking, {what}", rows, as_json)


def _time_help() -> dict[str, float]:
    """Median seconds of `iml --help`, beside the bare interpreter's start."""
    import statistics
    import subprocess
    import sys
    import time

    def median(*command: str) -> float:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    iml = str(Path(sys.executable).parent / "iml")
    return {
        "seconds": median(iml, "--help"),
        "interpreter_seconds": median(sys.executable, "-c", ""),
    }


if __name__ == "__main__":
    configure()
    with exit_on_error():
        app()
