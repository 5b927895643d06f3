"""Benchmarks: ratios, each measured in one run; `python -m benchmarks --help` lists them."""

from __future__ import annotations

from pathlib import Path


def peak_mb() -> float:
    """Largest resident size of this process; ru_maxrss would count the parent's as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
