"""A photo's report: every statement true, whatever photo and model; hostile input is text."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browsers import Pages
from PIL import ExifTags, Image, PngImagePlugin
from project import ROOT
from signed_photos import altered, photo, signed
from small_students import small_student

from components.core.files import read_json, sha256_bytes, sha256_json, write_json
from components.export.onnx import save
from components.serving import report, stability
from components.serving.batch import find, predict_files
from components.serving.inference import Limits, Scored, scored
from components.serving.origin import Origin, Student
from components.serving.predictor import Predictor
from components.serving.rates import rate
from components.serving.report import Model, case_report
from components.student.config import CONFIG, OWN_HASH, Scores, ValidationScores

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\u202e.jpg"
ORIGIN = Origin("m", 3, "ab" * 32, "2026-11-28T02:00:00+00:00", "boxpromptiml 0.1.0")
SCORES = ValidationScores(
    side=336,
    jpeg_quality=(70, 95),
    authentic=Scores.of(np.arange(40) / 100),  # 0 to 0.39
    manipulated=Scores.of(np.arange(50) / 50),
)
MODEL = Model("m/3", 0.25, 1.5, 64, tiles=False, validation=SCORES)


def examined(data: bytes, predictor: Predictor) -> Scored[str]:
    (one,) = scored(["photo"], lambda _: data, predictor, Limits(), abstain=False)
    return one


def written(
    data: bytes, predictor: Predictor, model: Model = MODEL, name: str = "p.jpg", **about: str
) -> str:
    return case_report(name, data, examined(data, predictor), predictor, model, ORIGIN, about)


def words(html: str) -> str:
    """The page's text, each run of space as one."""
    body = re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+([.,;])", r"\1", " ".join(unescape(body).split()))


def part(html: str, name: str) -> str:
    """The text of the element with this id."""
    found = re.search(rf'<(\w+)[^>]* id="{name}">(.*?)</\1>', html, re.DOTALL)
    assert found, name
    return words(found[2])


@pytest.fixture(scope="module")
def data() -> bytes:
    return photo((90, 140))


@pytest.fixture(scope="module")
def score(data: bytes, predictor: Predictor) -> float:
    found = examined(data, predictor).found
    assert found is not None
    assert 0.02 < found.score < 0.3
    return round(found.score, 6)


def test_above_the_threshold(data: bytes, predictor: Predictor, score: float) -> None:
    html = written(data, predictor, replace(MODEL, threshold=0.01))
    verdict = part(html, "verdict")
    assert verdict.startswith("The model reports signs of manipulation The photo's score is")
    assert f"is {score:.4f}, above 0.0100, the threshold that was set on validation" in verdict
    assert "not proof: the model also marks authentic photos." in verdict
    assert "No pixel has a probability above 0.5, so nothing is outlined." in verdict


def test_not_above_it_is_not_authentic(data: bytes, predictor: Predictor, score: float) -> None:
    verdict = part(written(data, predictor, replace(MODEL, threshold=0.9)), "verdict")
    assert verdict.startswith(
        "The model reports nothing. This does not mean that the photo is auth"
    )
    assert f"is {score:.4f}, not above 0.9000, the threshold" in verdict
    close = replace(MODEL, threshold=score)  # strictly above counts; more digits show which it is
    assert f"is {score:.6f}, not above {score:.6f}," in part(
        written(data, predictor, close), "verdict"
    )


def test_without_a_threshold_there_is_no_verdict(data: bytes, predictor: Predictor) -> None:
    html = written(data, predictor, replace(MODEL, threshold=None))
    assert part(html, "verdict").startswith("No verdict: this model has no threshold for whole ph")
    assert 'id="flips"' not in html
    assert "Against the threshold" not in html
    assert "Wrong side" not in html


def test_an_unsuitable_photo_says_so_first(predictor: Predictor) -> None:
    html = written(photo((20, 30)), predictor, replace(MODEL, threshold=0.01))
    verdict = part(html, "verdict")
    assert verdict.startswith(
        "This photo is unsuitable: too small (30x20) The model answers for any"
    )
    assert "supports no conclusion" in verdict
    assert "signs of manipulation" not in verdict


def test_a_region_below_the_threshold_is_owned_up_to(tmp_path: Path, data: bytes) -> None:
    student = small_student()
    student.fusion.head.bias.data.fill_(8.0)  # marks everything
    save(student, tmp_path)
    verdict = part(written(data, Predictor(tmp_path), replace(MODEL, threshold=1.0)), "verdict")
    assert "What is outlined covers 100 % of the photo, although the score is not above" in verdict


def test_rates_are_counted_by_hand(data: bytes, predictor: Predictor, score: float) -> None:
    html = written(data, predictor)
    hits = sum(value / 100 >= score for value in range(40))
    low, high = rate(hits, 40)[2:]
    row = part(html, "authentic")
    assert f"False-alarm rate at this score: {hits} of 40, {100 * hits / 40:.1f} %" in row
    assert f"(95 % interval {100 * low:.1f} % to {100 * high:.1f} %)" in row
    assert "Above it: 14 of 40, 35.0 %" in row  # 0.26 to 0.39 are above 0.25
    row = part(html, "manipulated")
    assert f"{sum(value / 50 >= score for value in range(50))} of 50" in row
    assert "Not above it: 13 of 50, 26.0 %" in row  # 0 to 0.24
    text = words(html)
    assert "at most 336 pixels a side and saved once more as JPEG of quality 70 to 95" in text
    assert "A false-alarm rate is not the probability that this photo is authentic." in text
    assert html.count(" 0v16") == 90  # ticks


def test_of_very_many_photos_the_rate_is_a_bound(data: bytes, predictor: Predictor) -> None:
    many = SCORES.model_copy(update={"authentic": Scores.of(np.linspace(0, 1, 5000))})
    html = written(data, predictor, replace(MODEL, validation=many))
    assert "False-alarm rate at this score: at most " in part(html, "authentic")
    assert "Above it: at most 37" in part(html, "authentic")
    assert "Not above it: at least 13 of 50" in part(html, "manipulated")


def test_students_without_scores_say_that_the_rate_is_unknown(
    data: bytes, predictor: Predictor
) -> None:
    html = written(data, predictor, replace(MODEL, validation=None))
    assert "is unknown for this model: its file has no scores" in part(html, "authentic")
    only = SCORES.model_copy(update={"authentic": Scores.of([])})
    html = written(data, predictor, replace(MODEL, validation=only))
    assert "no authentic photos among the validation photos" in part(html, "authentic")


def test_the_model_is_read_from_its_file(student_folder: Path, tmp_path: Path) -> None:
    student = small_student()
    known = {"image_threshold": 0.25, "temperature": 1.5, "validation_scores": SCORES}
    student.config = student.config.model_copy(update=known)
    save(student, tmp_path)
    found = Model.of(Student(tmp_path, "m", 3))
    assert found == replace(MODEL, validation=SCORES)
    old = Model.of(Student(student_folder, "m", None))
    assert (old.name, old.threshold, old.validation) == ("m", None, None)
    values = read_json(tmp_path / CONFIG)  # code of another time
    del values["size"], values["view"], values[OWN_HASH]
    values |= {"validation_scores": {"format": 2}, "image_threshold": "high"}
    write_json(tmp_path / CONFIG, values | {OWN_HASH: sha256_json(values)})
    assert Model.of(Student(tmp_path, "m", 3)) == Model("m/3", None, 1.5, None, None, None)


def test_flips_are_told(data: bytes, predictor: Predictor, score: float) -> None:
    html = written(data, predictor, replace(MODEL, threshold=0.9))
    assert "stays on the same side of the threshold in all 6 variants" in part(html, "flips")
    assert "flips" not in words(html)
    html = written(data, predictor, replace(MODEL, threshold=score))  # which is not above itself
    told = part(html, "flips")
    one = examined(data, predictor)
    assert one.photo is not None
    assert one.found is not None
    other = [
        row.name for row in stability.variants(one.photo, one.found, predictor, score) if row.above
    ]
    assert other
    assert told.endswith(f"in {len(other)} of 6 variants: {', '.join(other)}.")
    assert words(html).count("(flips)") == len(other)


def test_what_is_unknown_is_not_claimed(data: bytes, predictor: Predictor) -> None:
    model = Model("m/3", None, None, None, None, None)
    text = words(written(data, predictor, model))
    assert "None" not in text.replace("None of them", "").replace("None. Messengers", "").replace(
        "None is set up", ""
    )
    assert "What it was trained on is not recorded in its file" in text
    assert "temperature" not in text
    text = words(written(data, predictor, **{"Trained on": "data set demo"}))
    assert "Trained on data set demo" in text
    assert "What it was trained on is named above" in text
    assert "about 2.2 x 1.4 pixels of this photo" in text  # 140x90 at 64x64
    tiled = words(written(data, predictor, replace(MODEL, tiles=True)))
    assert "It sees the photo in squares of 64 x 64 pixels" in tiled


def test_the_page_names_file_model_and_program(data: bytes, predictor: Predictor) -> None:
    text = words(written(data, predictor, Command="iml predict --report"))
    facts = (sha256_bytes(data), "m/3", "ab" * 32, ORIGIN.made_at, ORIGIN.program)
    for fact in (*facts, f"{len(data):,} bytes", "140 x 90 pixels", "iml predict --report"):
        assert fact in text
    assert "about 90 on libjpeg's scale" in text
    assert "the table is the standard one of quality 90" in text
    assert "baseline, 1 scan" in text
    assert "4:2:0" in text
    for library in ("onnxruntime", "pillow", "c2pa-python"):
        assert re.search(rf"{library} \d", text)


def test_content_credentials_and_trust_are_two_things(data: bytes, predictor: Predictor) -> None:
    own = signed(data)
    valid = part(written(own, predictor), "credentials")
    assert valid.startswith("Present and valid.")
    assert "Who signed is not established." in valid
    assert "None is set up here" in valid
    assert "Signer <i>of a test</i>, Test desk" in valid
    invalid = part(written(altered(own), predictor), "credentials")
    assert invalid.startswith("Present and invalid.")
    assert "assertion.dataHash.mismatch" in invalid
    assert "Who signed is not established." in invalid
    assert part(written(data, predictor), "credentials").startswith("Absent.")
    bmp = photo((90, 140), kind="BMP")
    assert "cannot look for them in a file of this kind" in part(
        written(bmp, predictor), "credentials"
    )


def test_a_rotated_photo_is_shown_upright(predictor: Predictor) -> None:
    pixels = np.zeros((90, 140, 3), dtype=np.uint8)
    pixels[:, :70] = 255
    exif, file = Image.Exif(), BytesIO()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    text = words(written(file.getvalue(), predictor))
    assert "Native size 90 x 140 pixels, turned upright as its EXIF orientation (6) says" in text


def hostile(kind: str) -> bytes:
    """Photos whose metadata attacks the reader or the page."""
    exif, file = Image.Exif(), BytesIO()
    exif[ExifTags.Base.Make] = HOSTILE
    exif[ExifTags.Base.Software] = "</dd></dl><img src=x onerror=alert(1)>" * 1000
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"\xff\xfe\x80" * 5000
    options: dict[str, object] = {"exif": exif}
    if kind == "JPEG":
        bomb = '<!DOCTYPE x [<!ENTITY a "ha">]><x xmp:CreatorTool="</p><b>&a;">' * 900
        options |= {"xmp": bomb.encode(), "comment": HOSTILE.encode(), "icc_profile": b"<b>" * 99}
    else:
        notes = PngImagePlugin.PngInfo()
        notes.add_itxt("<b>key</b>", HOSTILE)
        options |= {"pnginfo": notes, "icc_profile": b"<b>" * 99}
    image = Image.open(BytesIO(photo((90, 140))))
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_comes_from_outside_is_text_and_short(kind: str, predictor: Predictor) -> None:
    html = written(hostile(kind), predictor, name=HOSTILE, Command=HOSTILE)
    assert len(html) < 500_000
    assert "script-src 'none'" in html
    for tag in ("<script", "<b>&a", "onerror=alert(1)>", "<b>key", "\u202e"):
        assert tag not in html
    text = words(html)
    assert "<script>alert(1)</script>\"'&{{ 7*7 }}\\u202e.jpg" in text
    assert "Could not be read" in text  # the colour profile
    assert "Colour profile (ICC) Could not be read (" in text
    assert not re.search(r"https?://|url\(|@import|<link|<iframe|<form", html)


def test_a_part_that_fails_leaves_the_others(
    data: bytes, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    places = {
        report.jpeg_file: "structure",
        report.metadata: "exif",
        report.stability: "variants",
        report.credentials: "read",
    }
    for module, name in places.items():
        monkeypatch.setattr(module, name, fail)
    text = words(written(data, predictor))
    assert text.count("Could not be read (MemoryError).") == 3
    assert text.count("Could not be measured (MemoryError).") == 1
    assert "The model reports" in text
    assert "Limits" in text


def test_damaged_metadata_never_stops_a_report(predictor: Predictor) -> None:
    data, random, made = hostile("JPEG"), np.random.default_rng(0), 0
    end = data.index(b"\xff\xdb")
    for _ in range(60):
        bad = bytearray(data)
        for _ in range(random.integers(1, 40)):
            bad[random.integers(2, end)] = random.integers(256)
        one = examined(bytes(bad), predictor)
        if one.photo is not None:
            case_report("p", bytes(bad), one, predictor, MODEL, ORIGIN, {})
            made += 1
    assert made > 20


def test_files_are_written_in_order_and_named(tmp_path: Path, predictor: Predictor) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(photo(seed=number))
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    out, seen = tmp_path / "out", []

    def make(name: str, data: bytes, one: Scored[object]) -> str:
        seen.append((name, sorted(path.suffix for path in out.glob(f"{name[0]}.*"))))
        if name == "1.jpg":  # changes between the answer and its report
            (tmp_path / "2.jpg").write_bytes(photo(seed=9))
        return case_report(name, data, one, predictor, MODEL, ORIGIN, {})

    outcomes = predict_files(predictor, find([tmp_path], out), out, ORIGIN, report=make)
    assert seen == [("0.jpg", []), ("1.jpg", [])]  # before the others, the record last
    assert [one.report for one in outcomes] == ["0.report.html", "1.report.html", None, None]
    assert [one.error for one in outcomes[:3]] == [None, None, "changed while it was examined"]
    assert read_json(out / "0.json")["report"] == "0.report.html"
    assert {path.name for path in out.glob("2.*")} == set()


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from components.serving import batch, report; report.credentials.read(b'');"
        "heavy = {'torch', 'timm', 'mlflow', 'prefect', 'pandas', 'pyarrow', 'scipy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_in_a_browser_at_any_width_and_on_paper(
    tmp_path: Path, predictor: Predictor, browse: Pages
) -> None:
    photos = {
        "signed": signed(photo((90, 140))),
        "hostile": hostile("JPEG"),
        "tiny": photo((5, 9), kind="PNG"),
        "wide": photo((66, 1500)),
    }
    for name, data in photos.items():
        path = tmp_path / f"{name}.html"
        path.write_text(written(data, predictor, name=f"{name} {HOSTILE * 3}"))
        assert browse.fits(path)
        page = browse.open(path)
        sizes = page.evaluate("[...document.images].map(image => image.naturalWidth)")
        assert len(sizes) >= 2
        assert all(sizes)
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 680, "height": 1000})  # A4 between its margins
        assert page.evaluate("document.documentElement.scrollWidth") <= 680
        left, right = (image.bounding_box() for image in page.locator(".pair img").all())
        assert left
        assert right
        assert left["y"] == right["y"]  # side by side
        printed = page.pdf(prefer_css_page_size=True)
        assert printed.startswith(b"%PDF")
        sheets = len(re.findall(rb"/Type\s*/Page\b", printed))
        assert 2 <= sheets <= 6
        page.close()
