"""Benchmarks: ratios, each measured in one run; `python -m benchmarks --help` lists them."""
