"""Stage `evaluate`: intervals, calibration, robustness, report; statistics of comparisons."""
