"""The pages: escaped, self-contained, complete, the same twice; photos in one of them only."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from components.core.files import read_json, sha256_file
from components.core.images import save_grey
from components.evaluate import report
from components.evaluate.gallery import Album
from components.evaluate.run import evaluate

HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}.png"


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.sources += [
            named[key] or "" for key in ("src", "href", "srcset", "data") if key in named
        ]

    def handle_data(self, data: str) -> None:
        self.text += data


def _parse(html: str) -> _Page:
    page = _Page()
    page.feed(html)
    return page


def _noisy(photos: list[np.ndarray]) -> list[np.ndarray]:
    return [np.clip(p[..., 0] / 255 + p[..., 1] / 400, 0, 1).astype(np.float32) for p in photos]


def _rendered(album: Album, params, predict, **about: str) -> tuple[str, str, object]:
    """The report, the page of photos, what both show."""
    evaluation = evaluate(predict, album.photos.images, album.root, params)
    sections = report.gallery(evaluation, album, predict)
    html = report.render(evaluation, sections, params, about)
    return html, report.render_photos(sections, about), sections


def test_pages_show_figures_and_pictures(make_dataset, make_album, params) -> None:
    images, root = make_dataset(manipulated=14, authentic=6)
    html, photos, sections = _rendered(make_album(images, root), params, _noisy, model="m/1")
    page, evaluation = _parse(html), evaluate(_noisy, images, root, params)
    assert {title: len(examples) for title, examples in sections.items()} == {
        "Best": 4,
        "Median": 4,
        "Worst": 4,
        "Worst false alarms": 4,
    }
    assert _parse(photos).tags.count("img") == 12 * 4 + 4 * 2
    assert "data:image" not in html
    hashes = images.set_index("image_id")["sha256"]
    for example in (one for examples in sections.values() for one in examples):
        assert example.sha256 == hashes[example.name]
        assert f"<code>{example.sha256[:16]}</code>" in html
    shown = [what for what, _ in sections["Worst"][0].pictures]
    assert shown == ["photo and box", "pseudo-mask", "answer", "true mask"]
    assert [what for what, _ in sections["Worst false alarms"][0].pictures] == ["photo", "answer"]
    for text in ("False-alarm area", "IMDL-BenCo", "splice/free", "m000.png", "m/1"):
        assert text in page.text
    points = [evaluation.metrics[name] for name in ("f1_best", "f1_at_1_percent")]
    for point in points:
        assert f"{point['value']:.3f}" in page.text
        assert f": {point['threshold']:.3f}" in page.text
    assert "optimistic" in page.text
    for chart in ("F1 by threshold", "False-alarm area by threshold", "Precision by recall"):
        assert f'aria-label="{chart}' in html


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["splice/free", "copy-move/geometric"], ["Kind"]),
        (["splice", "copy-move"], ["Kind"]),
        (["splice/free"], []),
        (["splice/free", "splice/geometric", "removal/free"], ["Kind", "Method", "Shape"]),
    ],
)
def test_no_table_repeats_figures(make_dataset, params, kinds, expected) -> None:
    images, root = make_dataset(manipulated=12, authentic=2)
    images.loc[:11, "kind"] = [kinds[number % len(kinds)] for number in range(12)]
    metrics = evaluate(_noisy, images, root, params).metrics
    assert [column for _, column, _ in report._tables(metrics) if column != "Area"] == expected


def test_page_loads_nothing(make_dataset, make_album, params) -> None:
    html, photos, _ = _rendered(make_album(*make_dataset()), params, _noisy)
    assert _parse(html).sources == ["photos.html"]
    assert _parse(photos).sources
    assert all(source.startswith("data:image/") for source in _parse(photos).sources)
    for text in (html, photos):
        assert not re.search(r"https?:|url\(|@import|<script[^>]|<link|<iframe", text)
        assert "default-src 'none'" in text


def test_pictures_open_large_in_a_page_that_fits(
    make_dataset, make_album, params, tmp_path, browse
) -> None:
    html, photos, sections = _rendered(make_album(*make_dataset(14, 6)), params, _noisy)
    path, report_path = tmp_path / "photos.html", tmp_path / "report.html"
    path.write_text(photos)
    report_path.write_text(report.identified(html, {"Git commit": "c" * 40}))
    page = browse.open(path)
    worst = sections["Worst"][0].name
    page.get_by_role("button", name=f"Open {worst} large").press("Enter")
    dialog = page.locator("#viewer")
    assert dialog.locator("#viewer-name").inner_text() == worst
    shown = ["photo and box", "pseudo-mask", "answer", "true mask"]
    assert dialog.locator("figcaption").all_inner_texts() == shown
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert browse.fits(path)
    assert browse.fits(report_path)


def test_hostile_names_are_text(make_dataset, make_album, params) -> None:
    images, root = make_dataset()
    images["kind"] = images["kind"].where(images["kind"].isna(), HOSTILE)
    images.loc[0, "image_id"] = HOSTILE
    save_grey(root / "pseudo" / f"{HOSTILE}.png", np.zeros((24, 32), dtype=np.uint8))
    html, photos, _ = _rendered(make_album(images, root), params, _noisy, model=HOSTILE)
    page = _parse(html)
    assert page.tags.count("script") == 0
    assert _parse(photos).tags.count("script") == 1  # the viewer's
    assert page.text.count(HOSTILE) >= 3
    assert _parse(photos).text.count(HOSTILE) >= 2
    more = report.identified(html, {"Version": HOSTILE})
    assert _parse(more).tags.count("script") == 0
    assert _parse(more).text.count(HOSTILE) == page.text.count(HOSTILE) + 1


def test_small_sets_show_each_photo_once(make_dataset, params) -> None:
    images, root = make_dataset(manipulated=2, authentic=1)
    evaluation = evaluate(_noisy, images, root, params)
    sections = report.pick(evaluation.images)
    names = [name for section in sections.values() for name in section]
    assert sorted(names) == sorted(images["image_id"])


def test_worst_and_best_are_by_f1(make_dataset, params) -> None:
    images, root = make_dataset(manipulated=12, authentic=0)
    evaluation = evaluate(_noisy, images, root, params)
    sections = report.pick(evaluation.images)
    f1 = evaluation.images.set_index("image_id")["f1"]
    means = [f1[sections[title]].mean() for title in ("Worst", "Median", "Best")]
    assert f1[sections["Worst"]].max() <= f1[sections["Best"]].min()
    assert means == sorted(means)


@pytest.mark.parametrize(("manipulated", "authentic"), [(2, 0), (0, 2)])
def test_one_class_renders(
    make_dataset, make_album, params, red_channel, manipulated, authentic
) -> None:
    album = make_album(*make_dataset(manipulated, authentic))
    for html in _rendered(album, params, red_channel)[:2]:
        assert "nan" not in _parse(html).text.lower()
        assert "None" not in html


def test_files_are_the_same_twice(make_dataset, make_album, params, tmp_path) -> None:
    images, root = make_dataset()
    album = make_album(images, root)
    hashes = []
    for name in ("one", "two"):
        evaluation = evaluate(_noisy, images, root, params)
        sections = report.gallery(evaluation, album, _noisy)
        report.write(tmp_path / name, evaluation, sections, params, {"model": "x"})
        files = sorted((tmp_path / name).iterdir())
        hashes.append([(file.name, sha256_file(file)) for file in files])
    assert hashes[0] == hashes[1]
    names = ["images.parquet", "metrics.json", "photos.html", "report.html"]
    assert [name for name, _ in hashes[0]] == names
    assert read_json(tmp_path / "one" / "metrics.json") == evaluation.metrics


def test_the_photos_are_named_by_their_bytes_labels_and_masks(make_dataset) -> None:
    images, _ = make_dataset()
    images["mask_sha256"] = None
    named = report.digest(images)
    assert report.digest(images.iloc[::-1]) == named
    for column, value in (("sha256", "0" * 64), ("label", "other"), ("mask_sha256", "1" * 64)):
        changed = images.copy()
        changed.loc[0, column] = value
        assert report.digest(changed) != named
