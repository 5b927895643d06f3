"""Pages: values from outside are no markup, missing ones no blanks."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from components import pages


@pytest.fixture
def template(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(
        "<p>{{ name }} {{ share | percent }}</p>\n{% if note %}\n<b>{{ note }}</b>\n{% endif %}"
    )
    return path


def percent(value: float) -> str:
    return f"{value:.0%}"


def test_a_page_is_filled_and_values_are_escaped(template: Path) -> None:
    values = {"name": "<script>", "share": 0.25, "note": "a&b"}
    page = pages.render(template, values, {"percent": percent})
    assert page == "<p>&lt;script&gt; 25%</p>\n<b>a&amp;b</b>\n"


def test_a_missing_value_is_an_error(template: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'note' is undefined"):
        pages.render(template, {"name": "n", "share": 0}, {"percent": percent})
