"""Evaluation: pixel metrics, intervals, streaming over a data set, report."""
