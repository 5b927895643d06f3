"""The page: escaped, self-contained, complete, the same twice."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from components.evaluation import report
from components.evaluation.run import evaluate
from components.files import read_json, sha256_file

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


def _rendered(images, root, params, predict, **about: str) -> tuple[str, object]:
    evaluation = evaluate(predict, images, root, params)
    sections = report.gallery(evaluation, images, root, predict)
    return report.render(evaluation, sections, params, about), sections


def test_page_shows_figures_and_pictures(make_dataset, params) -> None:
    images, root = make_dataset(manipulated=14, authentic=6)
    html, sections = _rendered(images, root, params, _noisy, model="m/1")
    page = _parse(html)
    assert {title: len(examples) for title, examples in sections.items()} == {
        "Best": 4,
        "Median": 4,
        "Worst": 4,
        "Worst false alarms": 4,
    }
    assert page.tags.count("img") == 12 * 3 + 4 * 2
    for text in ("False-alarm area", "IMDL-BenCo", "splice/free", "m000.png", "m/1"):
        assert text in page.text


def test_page_loads_nothing(make_dataset, params) -> None:
    html, _ = _rendered(*make_dataset(), params, _noisy)
    page = _parse(html)
    assert page.sources
    assert all(source.startswith("data:image/") for source in page.sources)
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", html)
    assert "default-src 'none'" in html


def test_hostile_names_are_text(make_dataset, params) -> None:
    images, root = make_dataset()
    images["kind"] = images["kind"].where(images["kind"].isna(), HOSTILE)
    images.loc[0, "image_id"] = HOSTILE
    html, _ = _rendered(images, root, params, _noisy, model=HOSTILE)
    page = _parse(html)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 3


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
def test_one_class_renders(make_dataset, params, red_channel, manipulated, authentic) -> None:
    images, root = make_dataset(manipulated, authentic)
    html, _ = _rendered(images, root, params, red_channel)
    assert "nan" not in _parse(html).text.lower()
    assert "None" not in html


def test_files_are_the_same_twice(make_dataset, params, tmp_path) -> None:
    images, root = make_dataset()
    hashes = []
    for name in ("one", "two"):
        evaluation = evaluate(_noisy, images, root, params)
        sections = report.gallery(evaluation, images, root, _noisy)
        report.write(tmp_path / name, evaluation, sections, params, {"model": "x"})
        files = sorted((tmp_path / name).iterdir())
        hashes.append([(file.name, sha256_file(file)) for file in files])
    assert hashes[0] == hashes[1]
    assert [name for name, _ in hashes[0]] == ["images.parquet", "metrics.json", "report.html"]
    assert read_json(tmp_path / "one" / "metrics.json") == evaluation.metrics
