"""What Prometheus reads: times, statuses, and the columns that `iml drift` compares."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from components.serving.inference import Examined
from components.serving.origin import Origin
from components.serving.predictor import Prediction

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PIXELS = (64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
_SHARES = tuple(step / 20 for step in range(1, 21))
# The columns that `iml drift` compares, and their bins.
COLUMNS = {
    "score": ("How manipulated the photo looks, 0..1.", _SHARES),
    "area": ("Share of its pixels above 0.5.", (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)),
    "width": ("Its width, pixels.", _PIXELS),
    "height": ("Its height, pixels.", _PIXELS),
    "jpeg_quality": ("Quality of a JPEG, 1..100.", (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100)),
}


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.seconds = Histogram(
            "iml_seconds",
            "Time of an answer's part: queue, decode, predict, encode; or in total.",
            ["part"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.responses = Counter(
            "iml_responses", "Responses by HTTP status.", ["status"], registry=registry
        )
        self.abstentions = Counter(
            "iml_abstentions", "Photos without an answer, by reason.", ["reason"], registry=registry
        )
        self.waiting = Gauge(
            "iml_waiting", "Requests with a photo that are not answered yet.", registry=registry
        )
        self.batch = Histogram(
            "iml_batch_photos",
            "Photos predicted together.",
            registry=registry,
            buckets=(1, 2, 4, 8, 12, 16),
        )
        self._photo = {
            name: Histogram(f"iml_photo_{name}", what, registry=registry, buckets=bins)
            for name, (what, bins) in COLUMNS.items()
        }
        self._model = Gauge(
            "iml_model",
            "1 for the model that answers.",
            ["model", "version", "weights_sha256"],
            registry=registry,
        )
        self._refreshes = Counter(
            "iml_refreshes", "Looks for a new champion, by outcome.", ["outcome"], registry=registry
        )

    def name_model(self, origin: Origin) -> None:
        """Another model answers from now on."""
        self._model.clear()
        version = "" if origin.version is None else str(origin.version)
        self._model.labels(origin.model, version, origin.weights_sha256).set(1)

    def refreshed(self, fine: bool) -> None:
        """A look for a new champion is over."""
        self._refreshes.labels("done" if fine else "failed").inc()

    def count(self, one: Examined, found: Prediction | None) -> None:
        """A photo was answered, or abstained from."""
        if one.unsuitable:
            self.abstentions.labels(one.unsuitable.partition(" (")[0]).inc()
        height, width = one.photo.shape[:2]
        values = {"width": width, "height": height, "jpeg_quality": one.quality}
        if found:
            values |= {"score": found.score, "area": found.area}
        for name, value in values.items():
            if value is not None:
                self._photo[name].observe(value)

    def page(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
