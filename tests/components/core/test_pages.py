"""Pages: values from outside are no markup, missing ones no blanks."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import jinja2
import pytest

from components.core import pages


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's templates lie, beside the real ones."""
    monkeypatch.setattr(pages, "_TEMPLATES", [tmp_path, pages._TEMPLATES])
    return tmp_path


@pytest.fixture
def template(folder: Path) -> str:
    (folder / "page.html").write_text(
        "<p>{{ name }} {{ share | percent }}</p>\n{% if note %}\n<b>{{ note }}</b>\n{% endif %}"
    )
    return "page.html"


def percent(value: float) -> str:
    return f"{value:.0%}"


def test_a_page_is_filled_and_values_are_escaped(template: str) -> None:
    values = {"name": "<script>", "share": 0.25, "note": "a&b"}
    page = pages.render(template, values, {"percent": percent})
    assert page == "<p>&lt;script&gt; 25%</p>\n<b>a&amp;b</b>\n"


def test_a_missing_value_is_an_error(template: str) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'note' is undefined"):
        pages.render(template, {"name": "n", "share": 0}, {"percent": percent})


def test_only_the_templates_own_scripts_may_run(folder: Path) -> None:
    page = folder / "own.html"
    page.write_text(
        '{% extends "base.html" %}{% block title %}{{ name }}{% endblock %}'
        "{% block body %}{{ name }}<script>let a = 1;</script>{% endblock %}"
    )
    html = pages.render(page.name, {"name": "<script>alert(1)</script>"})
    allowed = base64.b64encode(hashlib.sha256(b"let a = 1;").digest()).decode()
    assert f"img-src data:; script-src 'sha256-{allowed}'\">" in html
    assert html.count("<script>") == 1
    page.write_text(page.read_text().replace("<script>let a = 1;</script>", ""))
    assert "script-src 'none'\">" in pages.render(page.name, {"name": "n"})
