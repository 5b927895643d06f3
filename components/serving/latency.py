"""How long one photo takes here, as a user waits for it."""

from __future__ import annotations

import time

import numpy as np

from components.core.seeds import generator
from components.serving.predictor import Predictor

SIDE, _WARM, _TIMES = 512, 2, 11


def milliseconds(predictor: Predictor) -> float:
    """The median time for one photo of 512x512 pixels, after a warm-up."""
    photo = generator(0, "latency").integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    taken = []
    for _ in range(_WARM + _TIMES):
        start = time.perf_counter()
        predictor.predict([photo])
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[_WARM:]) * 1000)
