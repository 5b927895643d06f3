from __future__ import annotations

import pytest
from pseudo_label_support import settings

from benchmarks.teacher_speed import bench_speed


def test_rates_and_agreement_with_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.teacher_speed._LOOP", 4)
    report = bench_speed(None, 60, settings(teacher="sam_lite"))
    assert report["photos"] == 30
    assert report["iou"] > 0.99
    rates = report["photos_a_second"]
    assert all(rate > 0 for rate in rates.values())
    assert report["ratio_to_loop"]["cached"] == pytest.approx(rates["cached"] / rates["loop"])
    assert set(report["peak_mb"]) == {"half-way", "end"}
