"""What the endpoint counts, in Prometheus' text format. One registry a gateway, so that tests do not share one."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ray_trash.serve.contract import ModelCard, Scored

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128)


class Telemetry:
    """Counters of one gateway."""

    def __init__(self) -> None:
        """Start at zero."""
        self._registry = CollectorRegistry()
        given: dict[str, Any] = {"registry": self._registry}
        self.requests = Counter("ray_trash_requests", "Scoring requests by status", ["status"], **given)
        text = "Requests refused before their photos were read"
        self.turned_away = Counter("ray_trash_turned_away", text, ["code"], **given)
        self._photos = Counter("ray_trash_photos", "Photos answered by label", ["label"], **given)
        self._abstained = Counter("ray_trash_abstained", "Answers that are not sure", **given)
        self._refused = Counter("ray_trash_refused", "Photos refused by reason", ["code"], **given)
        text = "From the request's headers to its answer"
        self.seconds = Histogram("ray_trash_request_seconds", text, buckets=SECONDS, **given)
        self._batch = Histogram("ray_trash_batch_photos", "Photos in a forward pass", buckets=PHOTOS, **given)
        self.in_flight = Gauge("ray_trash_photos_in_flight", "Photos being answered", **given)
        self._model = Gauge("ray_trash_model", "1 for the model that answers", ["id"], **given)
        self._model_id: str | None = None

    def count(self, scored: Scored) -> None:
        """Count the photos of one answered request."""
        self.show_model(scored.model)
        labels = scored.probabilities.argmax(axis=1)
        for position, label in enumerate(labels):
            if position in scored.refused:
                self._refused.labels(scored.refused[position][0]).inc()
            else:
                self._photos.labels(scored.model.classes[label]).inc()
        self._abstained.inc(int(scored.abstained.sum()))
        for size in scored.batch_sizes:
            self._batch.observe(size)

    def show_model(self, card: ModelCard) -> None:
        """Say which model answers."""
        if card.id != self._model_id:
            self._model.clear()
            self._model.labels(card.id).set(1)
            self._model_id = card.id

    def text(self) -> bytes:
        """Render everything."""
        return generate_latest(self._registry)
