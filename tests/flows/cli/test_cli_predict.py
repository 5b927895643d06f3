"""`iml predict` and `iml evaluate` with a student from a folder; both stay quick to import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import numpy as np
import onnxruntime
import pytest
import typer
from click.testing import Result
from small_students import nan_student, small_student
from typer.testing import CliRunner

from components.core.errors import InputError
from components.core.files import read_json, sha256_file
from components.core.images import open_photo, save_grey, save_photo
from components.export.onnx import save
from components.serving.origin import program
from components.student import runtime
from flows.cli import predict

ROOT = Path(__file__).parents[3]


def _iml(*arguments: object) -> Result:
    app = typer.Typer()
    app.command("predict")(predict.predict)
    app.command("evaluate")(predict.evaluate)
    app.command("score")(predict.score)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _photos(folder: Path, count: int, size: tuple[int, int] = (40, 48), first: int = 0) -> None:
    for number in range(count):
        random = np.random.default_rng(first + number)
        save_photo(folder / f"p{number}.png", random.integers(0, 255, (*size, 3), dtype=np.uint8))


def test_predict_tells_and_writes(project: Path, student_folder: Path) -> None:
    _photos(project / "in", 3)
    done = _iml("predict", "in", "--model", student_folder)
    assert done.exit_code == 0, done.stderr
    assert "in/p1.png" in done.stdout
    names = {path.name for path in (project / "runs/predict").iterdir()}
    kinds = ("mask.png", "overlay.png", "json")
    assert names == {f"p{number}.{kind}" for number in range(3) for kind in kinds}


def test_predict_as_json_is_one_document(project: Path, student_folder: Path) -> None:
    _photos(project / "in", 2)
    arguments = ("in/p0.png", "in/p1.png", "--model", student_folder, "--out", "o", "--json")
    document = json.loads(_iml("predict", *arguments).stdout)
    assert document["weights_sha256"] == sha256_file(student_folder / "student.safetensors")
    assert (document["model"], document["version"]) == (str(student_folder), None)
    assert document["program"] == program()
    one = read_json("o/p0.json")
    assert [one[k] for k in ("model", "made_at")] == [document[k] for k in ("model", "made_at")]
    assert [row["photo"] for row in document["photos"]] == ["in/p0.png", "in/p1.png"]
    assert document["photos"][0]["score"] == read_json("o/p0.json")["score"]


def test_predict_writes_a_report_of_each_photo(project: Path, student_folder: Path) -> None:
    _photos(project / "in/sub", 2, size=(70, 90))
    (project / "in/bad.jpg").write_bytes(b"no photo")
    arguments = ("predict", "in", "--model", student_folder, "--out", "o", "--report")
    done = _iml(*arguments, "--json")
    assert isinstance(done.exception, InputError)
    assert "1 of 3 photos could not be read" in str(done.exception)
    reports = [row["report"] for row in json.loads(done.stdout)["photos"]]
    assert reports == [None, "sub/p0.report.html", "sub/p1.report.html"]
    assert read_json("o/sub/p0.json")["report"] == "sub/p0.report.html"
    page = (Path("o") / reports[1]).read_text()
    for text in (
        "<h1>Case report: p0.png</h1>",
        f"--model {student_folder} --device cpu",
        program(),
    ):
        assert text in page
    assert sha256_file("in/sub/p0.png") in page
    assert "masks, overlays, reports and JSON are in o" in _iml(*arguments).stdout


def test_predict_reports_bad_photos_and_does_the_others(
    project: Path, student_folder: Path
) -> None:
    _photos(project / "in", 2)
    (project / "in" / "bad[red].png").write_bytes(b"")
    done = _iml("predict", "in", "--model", student_folder, "--out", "o", "--json")
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert "1 of 3 photos" in str(done.exception)
    errors = [row["error"] for row in json.loads(done.stdout)["photos"]]
    assert [bool(error) for error in errors] == [True, False, False]
    assert len(list(Path("o").glob("*.json"))) == 2
    shown = _iml("predict", "in", "--model", student_folder, "--out", "o")
    assert "bad[red].png" in shown.stdout


def test_predict_of_many_shows_the_highest(project: Path, student_folder: Path) -> None:
    _photos(project / "in", 45, size=(8, 8))
    done = _iml("predict", "in", "--model", student_folder, "--out", "o")
    assert "the highest 40 of 45 photos" in done.stdout
    scores = sorted(read_json(path)["score"] for path in Path("o").glob("*.json"))
    assert f"{scores[-1]:.3f}" in done.stdout.splitlines()[3]


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((70, 90), "featureless (all pixels are equal)"),
        ((300, 1), "too small (1x300)"),
        ((1, 300), "too small (300x1)"),
    ],
    ids=["all black", "one pixel wide", "one pixel high"],
)
def test_predict_tells_which_photos_it_cannot_judge(
    project: Path, student_folder: Path, shape: tuple[int, int], reason: str
) -> None:
    save_photo(project / "p.png", np.zeros((*shape, 3), dtype=np.uint8))
    _photos(project / "in", 1, size=(70, 90))
    arguments = ("predict", "p.png", "in", "--model", student_folder, "--out", "o")
    done = _iml(*arguments, "--json")
    assert done.exit_code == 0, (done.exception, done.stderr)
    poor, good = json.loads(done.stdout)["photos"]
    assert (poor["unsuitable"], good["unsuitable"]) == (reason, None)
    assert (poor["height"], poor["width"]) == shape
    assert read_json("o/p.json")["unsuitable"] == reason
    for name in ("p.mask.png", "p.overlay.png"):
        assert open_photo(Path("o") / name).shape[:2] == shape
    shown = _iml(*arguments).stdout
    assert shown.count("unsuitable") == 1
    assert reason.split()[0] in shown


def _main(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The whole command in a process of its own."""
    code = "from flows.cli.main import main; main()"
    command = [sys.executable, "-c", code, *(str(argument) for argument in arguments)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("how", ["truncated", "nan"])
def test_predict_with_weights_that_are_no_use_is_one_line(project: Path, how: str) -> None:
    save(nan_student() if how == "nan" else small_student(), Path("model"))
    weights = Path("model/student.onnx")
    if how == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    _photos(project / "in", 2)
    done = _main("predict", "in", "--model", "model", "--out", "o")
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    said = "cut short" if how == "truncated" else "the model's answer is unusable"
    assert line.startswith("error: model/student.onnx: ")
    assert said in line
    assert done.stdout == ""
    assert not list(Path().glob("o/**/*"))


@pytest.mark.parametrize(
    ("device", "message"), [("cuda", "ONNX Runtime has no cuda here"), ("x", "unknown device 'x'")]
)
@pytest.mark.parametrize("command", ["predict", "score"])
def test_a_device_that_is_not_there_is_one_line(
    project: Path, student_folder: Path, command: str, device: str, message: str
) -> None:
    if runtime.PROVIDERS.get(device) in onnxruntime.get_available_providers():
        pytest.skip(f"{device} is here")
    _photos(project / "in", 1)
    done = _iml(command, "in", "--model", student_folder, "--out", "o", "--device", device)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("empty", "--model", "."), "no photos"),
        (("p.png", "--model", "."), "student.json: no such file"),
    ],
)
def test_predict_wrong_use(project: Path, arguments: tuple[str, ...], message: str) -> None:
    (project / "empty").mkdir()
    save_photo(project / "p.png", np.zeros((4, 4, 3), dtype=np.uint8))
    done = _iml("predict", *arguments)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


def test_predict_without_a_champion_is_one_clear_line(project: Path) -> None:
    save_photo(project / "p.png", np.zeros((4, 4, 3), dtype=np.uint8))
    done = _iml("predict", "p.png")
    assert isinstance(done.exception, InputError)
    assert "boxpromptiml" in str(done.exception)
    assert not Path("runs").exists()


@pytest.fixture
def folders(project: Path) -> Path:
    """Manipulated and authentic photos as `Sp/ Gt/ Au/`, half of them held back."""
    source, rows = project / "source", ["split,image,mask"]
    mask = np.zeros((40, 48), dtype=np.uint8)
    mask[5:20, 8:24] = 255
    for first, name in enumerate(("Sp", "Au")):
        _photos(source / name, 6, first=100 * first)
        rows += [f"{'test' if n % 2 else 'train'},{name}/p{n}.png," for n in range(6)]
    for number in range(6):
        save_grey(source / "Gt" / f"p{number}_gt.png", mask)
    (source / "split.csv").write_text("\n".join(rows))
    return source


def test_evaluate_importable_folder(folders: Path, student_folder: Path) -> None:
    done = _iml("evaluate", "--data", folders, "--model", student_folder, "--out", "o", "--json")
    assert done.exit_code == 0, (done.exception, done.stderr)
    document = json.loads(done.stdout)
    assert document["photos"] == "test split"
    assert document["metrics"] == read_json("o/metrics.json")
    assert document["metrics"]["n_manipulated"] == document["metrics"]["n_authentic"] == 3
    assert sorted(path.name for path in Path("o").iterdir()) == [
        "images.parquet",
        "metrics.json",
        "photos.html",
        "report.html",
    ]
    page = Path("o/report.html").read_text()
    assert str(student_folder) in page
    now = datetime.now(UTC)
    days = {f"{day:%Y-%m-%d}" for day in (now, now - timedelta(hours=1))}
    assert any(f"<dt>Evaluated</dt><dd>{day}T" in page for day in days)
    assert f"<dd>{program()}</dd>" in page


def test_evaluate_shows_a_table(folders: Path, student_folder: Path) -> None:
    done = _iml("evaluate", "--data", folders, "--model", student_folder, "--out", "o")
    points = ("F1 at 0.5", "F1, best threshold (optimistic)", "F1 at 1 % false-alarm area")
    for text in (*points, "IMDL-BenCo", "report.html"):
        assert text in done.stdout


def test_results_lie_below_runs_by_default(folders: Path, student_folder: Path) -> None:
    _photos(Path("in box"), 1, size=(70, 90))
    made = student_folder.name
    done = _iml("score", "in box/", "--model", student_folder, "--json")
    document = json.loads(done.stdout)
    assert (document["out"], document["scored"]) == (f"runs/score/in-box-{made}", 1)
    assert (document["model"], document["version"]) == (str(student_folder), None)
    assert (Path(document["out"]) / "triage.html").is_file()
    done = _iml("evaluate", "--data", folders, "--model", student_folder, "--json")
    assert json.loads(done.stdout)["out"] == f"runs/evaluations/{folders.name}-{made}"
    stages = {
        path.split("/")[1]
        for path in (ROOT / "dvc.yaml").read_text().split()
        if path.startswith("runs/")
    }
    assert not stages & {"score", "evaluations", "bundles", "predict", "drift"}


OUTPUTS = [
    ("predict", "in/p0.png", "--out"),
    ("score", "in", "--out"),
    ("evaluate", "--data", "in", "--out"),
    ("audit", "--page"),
    ("replay", "--into"),
    ("lineage", "export", "--out"),
    ("lineage", "events", "--out"),
    ("drift", "in", "in", "--out"),
    ("student", "pretrain", "--out"),
    ("teacher", "train", "--out"),
    ("dataset", "export", "in", "--format=voc", "--out"),
    ("dataset", "rank", "in", "--out"),
]


@pytest.mark.parametrize("command", OUTPUTS, ids=" ".join)
@pytest.mark.parametrize("place", ["/proc/nowhere/out", "a file/out", "o" * 300 + "/out"])
def test_a_place_that_cannot_be_made_is_one_line(
    project: Path,
    command: tuple[str, ...],
    place: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.cli import main

    _photos(project / "in", 1)
    Path("a file").touch()
    monkeypatch.setattr("sys.argv", ["iml", *command, place])
    with pytest.raises(SystemExit) as left:
        main.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2
    assert line.startswith("error: ")
    assert place.split("/")[0] in line
    assert line.endswith("choose another place")


def test_every_option_for_a_place_is_tried() -> None:
    from flows.cli.main import app

    def places(command: click.Command, name: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for sub, one in getattr(command, "commands", {}).items():
            yield from places(one, (*name, sub))
        for parameter in command.params:
            for option in {"--out", "--page", "--into"} & set(parameter.opts):
                yield (*name, option)

    found = set(places(typer.main.get_command(app), ()))
    inputs = ("in", "--data", "--format")
    tried = {tuple(word for word in row if not word.startswith(inputs)) for row in OUTPUTS}
    # data/NAME
    named = {("dataset", "synthesize", "--out"), ("dataset", "import", "--into")}
    named.add(("annotate", "--into"))
    assert found - named == tried


def test_evaluate_needs_a_data_set(project: Path, student_folder: Path) -> None:
    done = _iml("evaluate", "--data", "nowhere", "--model", student_folder, "--out", "o")
    assert isinstance(done.exception, InputError)
    assert "nowhere: no such file or folder" in str(done.exception)
    assert not Path("o").exists()


def test_commands_import_nothing_heavy() -> None:
    code = (
        "import sys; from flows.cli import main; "
        "heavy = {'torch', 'timm', 'mlflow', 'numpy', 'pandas', 'cv2', 'PIL', 'rich.progress'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
