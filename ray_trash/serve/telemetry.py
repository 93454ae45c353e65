"""What the endpoint counts, in Prometheus' text format. One registry a gateway, so that tests do not share one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ray_trash.serve.contract import OUTCOMES, ModelCard, Scored, TrialFigures

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
PHOTOS = (1, 2, 4, 8, 16, 32, 64, 128)
CONFIDENCE = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)


class Telemetry:
    """Counters of one gateway; what is said of answers is said by model, as `model`, the id of its checkpoint."""

    def __init__(self) -> None:
        """Start at zero."""
        self._registry = CollectorRegistry()
        given: dict[str, Any] = {"registry": self._registry}
        of_model = {"labelnames": ["model"], **given}
        self.requests = Counter("ray_trash_requests", "Scoring requests by status", ["status"], **given)
        text = "Requests refused before their photos were read"
        self.turned_away = Counter("ray_trash_turned_away", text, ["code"], **given)
        self._photos = Counter("ray_trash_photos", "Photos answered by label", ["model", "label"], **given)
        text = "Answers that are not sure, by the likeliest label"
        self._abstained = Counter("ray_trash_abstained", text, ["model", "label"], **given)
        self._refused = Counter("ray_trash_refused", "Photos refused by reason", ["code"], **given)
        text = "Confidence of the likeliest label"
        self._confidence = Histogram("ray_trash_confidence", text, buckets=CONFIDENCE, **of_model)
        text = "From the request's headers to its answer"
        self.seconds = Histogram("ray_trash_request_seconds", text, buckets=SECONDS, **given)
        text = "Until all photos of a request are decoded"
        self._decode = Histogram("ray_trash_decode_seconds", text, buckets=SECONDS, **given)
        text = "Of a request's time with a replica, what is neither decoding nor a forward pass nor drawing"
        self._queue = Histogram("ray_trash_queue_seconds", text, buckets=SECONDS, **given)
        text = "Until what all answers of a request looked at is drawn, where that was asked for"
        self._explain = Histogram("ray_trash_explain_seconds", text, buckets=SECONDS, **given)
        self._forward = Histogram("ray_trash_forward_seconds", "One forward pass", buckets=SECONDS, **of_model)
        self._batch = Histogram("ray_trash_batch_photos", "Photos in a forward pass", buckets=PHOTOS, **given)
        self.in_flight = Gauge("ray_trash_photos_in_flight", "Photos being answered", **given)
        text = f"Attempts to change the model, or the one on trial, by outcome: {', '.join(OUTCOMES)}"
        self._exchanges = Counter("ray_trash_exchanges", text, ["outcome"], **given)
        for outcome in OUTCOMES:
            self._exchanges.labels(outcome)
        self._exchanged: Mapping[str, int] = {}
        self._model = Gauge("ray_trash_model", "1 for the model that answers", ["id"], **given)
        text = "Share of the validation photos that a label was the answer to"
        self._expected = Gauge("ray_trash_expected_share", text, ["model", "label"], **given)
        text = "Share of the validation photos whose answer was not sure"
        self._expected_abstained = Gauge("ray_trash_expected_abstained_share", text, **of_model)
        self._model_id: str | None = None
        self.shadow = ShadowCounters(self._registry)

    def count(self, scored: Scored, *, scored_s: float) -> None:
        """Count the photos of one answered request, which took so long behind this gateway."""
        self.show_model(scored.model)
        model = scored.model.id
        labels, confidence = scored.probabilities.argmax(axis=1), scored.probabilities.max(axis=1)
        for position, label in enumerate(labels):
            if position in scored.refused:
                self._refused.labels(scored.refused[position][0]).inc()
                continue
            counted = (model, scored.model.classes[label])
            self._photos.labels(*counted).inc()
            self._abstained.labels(*counted).inc(int(scored.abstained[position]))
            self._confidence.labels(model).observe(float(confidence[position]))
        for batch in scored.batches:
            self._batch.observe(batch.n_photos)
            self._forward.labels(model).observe(batch.seconds)
        self._decode.observe(scored.decode_s)
        if scored.maps:
            self._explain.observe(scored.explain_s)
        # Two forward passes of one request may overlap.
        computed_s = scored.decode_s + scored.explain_s + sum(batch.seconds for batch in scored.batches)
        self._queue.observe(max(0.0, scored_s - computed_s))

    def show_model(self, card: ModelCard) -> None:
        """Say which model answers, and what its answers were on validation photos."""
        if card.id == self._model_id:
            return
        for gauge in (self._model, self._expected, self._expected_abstained):
            gauge.clear()
        self._model.labels(card.id).set(1)
        for label, share in card.answer_shares.items():
            self._expected.labels(card.id, label).set(share)
        if card.answer_shares:
            self._expected_abstained.labels(card.id).set(max(0.0, 1 - sum(card.answer_shares.values())))
        self._model_id = card.id

    def show_exchanges(self, outcomes: Mapping[str, int]) -> None:
        """Say how often it was tried to change the model, since the start."""
        for outcome, count in outcomes.items():
            self._exchanges.labels(outcome).inc(count - self._exchanged.get(outcome, 0))
        self._exchanged = dict(outcomes)

    def text(self) -> bytes:
        """Render everything."""
        return generate_latest(self._registry)


class ShadowCounters:
    """What a model on trial makes of photos that another one answered; `shadow` and `model` are their ids."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start at zero."""
        given: dict[str, Any] = {"registry": registry}
        pair, name = ["model", "shadow"], "ray_trash_shadow"
        self._model = Gauge(name, "1 for the model on trial", ["id"], **given)
        text = "Photos that the model on trial scored too, by the label that was answered"
        self._photos = Counter(f"{name}_photos", text, [*pair, "label"], **given)
        text = "Of those, the ones that it gave another label"
        self._differences = Counter(f"{name}_differences", text, [*pair, "label", "shadow_label"], **given)
        text = "Of those, the ones that it was not sure of"
        self._abstained = Counter(f"{name}_abstained", text, pair, **given)
        text = "Its confidence in its likeliest label"
        self._confidence = Histogram(f"{name}_confidence", text, ["shadow"], buckets=CONFIDENCE, **given)
        text = "One forward pass of it, on one thread that gives way to others"
        self._forward = Histogram(f"{name}_forward_seconds", text, ["shadow"], buckets=SECONDS, **given)
        text = "Photos that were chosen for it and not scored: dropped for want of time, or failed"
        self._not_scored = Counter(f"{name}_not_scored", text, ["outcome"], **given)
        for outcome in ("dropped", "failed"):
            self._not_scored.labels(outcome)
        self._pair = ("", "")
        self._forward_s = 0.0
        self.figures = TrialFigures()

    def show(self, card: ModelCard | None) -> None:
        """Say which model is on trial, if any is."""
        self._model.clear()
        if card is not None:
            self._model.labels(card.id).set(1)

    def drop(self, n: int) -> None:
        """Count photos that were not scored, since something else came first."""
        self._not_scored.labels("dropped").inc(n)
        self.figures.dropped += n

    def fail(self, n: int) -> None:
        """Count photos that were not scored, since the model on trial did not answer."""
        self._not_scored.labels("failed").inc(n)
        self.figures.failed += n

    def meet(self, model: ModelCard, shadow: ModelCard) -> None:
        """Begin figures of two models, unless the newest are theirs."""
        if self._pair != (model.id, shadow.id):
            self._pair, self._forward_s, self.figures = (model.id, shadow.id), 0.0, TrialFigures()

    def count(self, scored: Scored, taken: Sequence[int], tried: Scored) -> None:
        """Count what the model on trial made of the photos that were taken of an answered request, by their places."""
        self.meet(scored.model, tried.model)
        for batch in tried.batches:
            self._forward.labels(tried.model.id).observe(batch.seconds)
            self._forward_s += batch.seconds
        self.fail(len(tried.refused))
        for mine, place in enumerate(taken):
            if mine not in tried.refused:
                self._compare(scored, place, tried, mine)
        self.figures.mean_forward_s = self._forward_s / max(1, self.figures.photos)

    def _compare(self, scored: Scored, place: int, tried: Scored, mine: int) -> None:
        answered, other = scored.probabilities[place], tried.probabilities[mine]
        # By name: with other classes, places mean something else.
        label, shadow_label = scored.model.classes[answered.argmax()], tried.model.classes[other.argmax()]
        self._photos.labels(*self._pair, label).inc()
        self._confidence.labels(self._pair[1]).observe(float(other.max()))
        self._abstained.labels(*self._pair).inc(int(tried.abstained[mine]))
        figures = self.figures
        figures.photos += 1
        figures.abstained += int(tried.abstained[mine])
        figures.model_abstained += int(scored.abstained[place])
        figures.mean_confidence += (float(other.max()) - figures.mean_confidence) / figures.photos
        figures.model_mean_confidence += (float(answered.max()) - figures.model_mean_confidence) / figures.photos
        if label == shadow_label:
            figures.agreed += 1
            return
        self._differences.labels(*self._pair, label, shadow_label).inc()
        row = figures.differences.setdefault(label, {})
        row[shadow_label] = row.get(shadow_label, 0) + 1
