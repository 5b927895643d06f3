"""The decision's page: what was judged stays, what was decided since follows the ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsers import Pages
from registry_support import BY_PEOPLE, RECORD, RULES, evidence

from components.evaluate.gallery import Example
from components.registry import chain, decisions
from components.registry.alias import reconcile, sync_alias
from components.registry.package import Package
from components.registry.promotion import Decision, approve, decide_and_promote, register, rollback
from components.registry.versions import Registry

Make = Callable[..., Package]
PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
HOSTILE = "<script>alert(1)</script>"


def written(registry: Registry, version: int, **changes: Any) -> tuple[Path, Decision]:
    found = evidence(chain.champion(registry.rows()), **changes)
    decision = decide_and_promote(registry, version, found, BY_PEOPLE, actor="ann")
    pictures = [("version 3", PIXEL), ("champion 2", PIXEL), ("true mask", PIXEL)]
    shown = {"Worst": [Example(name, "F1 0.1", pictures) for name in ("a.jpg", HOSTILE)]}
    return decisions.write(registry.rows(), decision, found, shown, {}), decision


@pytest.fixture
def page(two: Registry, make_package: Make) -> Path:
    """Of version 3, which waits for approval; version 2 is champion."""
    version = register(two, make_package("c"), clean=True, actor="ann")
    return written(two, version)[0]


def verdict(page: Path) -> str:
    return page.read_text().partition('<div class="verdict')[2].partition("</div>")[0]


def test_the_page_says_what_was_found_and_escapes_it(two: Registry, page: Path) -> None:
    hostile = {"data set <script>": "<b>mine</b>"}
    text = written(two, 3, licences=hostile)[0].read_text()
    assert "Awaiting approval" in verdict(page)
    assert "iml model approve m/3" in verdict(page)
    assert "differs by +0.0000" in text
    assert "9 photos of 5 sources" in text
    assert f"<code>{RECORD['git']['commit']}</code>" in text
    assert text.count("<script>") == 1  # the viewer's
    assert "<b>mine" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_what_is_decided_later_is_shown(two: Registry, page: Path) -> None:
    before = page.read_text()
    approve(two, 3, BY_PEOPLE, actor="bob <b>", reason="looked at the worst twenty")
    assert "Champion" in verdict(page)
    assert "by bob &lt;b&gt;: approved: looked at the worst twenty" in verdict(page)
    rollback(two, 1, actor="eve", reason="false alarms at the desk")
    assert "Former champion" in verdict(page)
    assert "by eve: false alarms at the desk. Version 1 is champion." in verdict(page)
    text = page.read_text()
    for said in ("version 3 approved", "version 3 made champion", "rolled back to version 1"):
        assert text.count(said) == 1
    assert before.partition("</section>")[2] == text.partition("</section>")[2]


def test_a_later_champion_is_shown(two: Registry, page: Path, make_package: Make) -> None:
    assert register(two, make_package("d"), clean=True, actor="ann") == 4
    found = evidence(2, f1=0.9)
    assert decide_and_promote(two, 4, found, RULES, actor="ann").promoted
    assert "Version 4 is champion." in verdict(page)
    assert "version 4 made champion" in page.read_text()


def test_a_page_that_missed_a_decision_is_put_right(two: Registry, page: Path) -> None:
    stale = page.read_text()
    approve(two, 3, BY_PEOPLE, actor="bob", reason="fine")
    page.write_text(stale)
    reconcile(two)
    assert "Champion" in verdict(page)
    page.write_text("<p>of an older program</p>")
    sync_alias(two)
    assert page.read_text() == "<p>of an older program</p>"


def test_a_page_that_is_current_is_not_written_again(two: Registry, page: Path) -> None:
    before = page.stat().st_mtime_ns
    sync_alias(two)
    assert page.stat().st_mtime_ns == before
    gated, _ = chain.last_gating(two.rows(), 3)
    assert gated is not None
    assert decisions.shown("m", 3) == gated.hash
    assert decisions.shown("m", 9) is None


def test_a_rejection_says_why(two: Registry, make_package: Make) -> None:
    register(two, make_package("c"), clean=True, actor="ann")
    page, _ = written(two, 3, f1=0.1)
    assert "Rejected" in verdict(page)
    assert "min_f1: F1 0.1 is below 0.2" in verdict(page)
    assert "Version 2 is champion." in verdict(page)


def test_reports_beside_the_page_name_the_version(
    two: Registry, make_package: Make, tmp_path: Path
) -> None:
    register(two, make_package("c"), clean=True, actor="ann")
    report = tmp_path / "report.html"
    report.write_text("<dl><dt>Data set</dt><dd>made</dd></dl>")
    data = {"licence": "CC0-1.0", "boxes_sha256": "b", "dvc": {"outs": [{"md5": "0a1b.dir"}]}}
    found = evidence(2, record=RECORD | {"datasets": {"made": data}})
    decision = decide_and_promote(two, 3, found, BY_PEOPLE, actor="ann")
    page = decisions.write(two.rows(), decision, found, {}, {"made": report})
    copy = page.with_name("m-v3.evaluation-made.html")
    assert f'<a href="{copy.name}">on made</a>' in page.read_text()
    text = copy.read_text()
    for value in ("m/3", two.rows()[-2].time[:10], "c" * 40, "0a1b.dir"):
        assert value in text
    assert report.read_text() == "<dl><dt>Data set</dt><dd>made</dd></dl>"


def test_photos_open_large_with_both_answers_side_by_side(page: Path, browse: Pages) -> None:
    view = browse.open(page)
    opener = view.get_by_role("button", name="Open a.jpg large")
    opener.click()
    dialog = view.locator("#viewer")
    assert dialog.locator("figcaption").all_inner_texts() == [
        "version 3",
        "champion 2",
        "true mask",
    ]
    assert dialog.locator("#viewer-name").inner_text() == "a.jpg"
    view.keyboard.press("ArrowRight")
    assert dialog.locator("#viewer-name").inner_text() == HOSTILE
    view.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert opener.evaluate("element => element === document.activeElement")
    assert browse.fits(page)
