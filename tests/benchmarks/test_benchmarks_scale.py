"""The growth of time and memory with rows is measured on the real steps."""

from benchmarks.scale import STEPS, bench_scale


def test_every_step_is_measured_at_every_size_with_its_growth() -> None:
    found = bench_scale([200, 400])
    assert list(found) == list(STEPS)
    for row in found.values():
        assert set(row) == {"200", "400", "slope"}
        assert row["400"]["seconds"] > 0
        assert row["400"]["peak_mb"] > 50
        assert set(row["slope"]) == {"seconds", "peak_mb"}
