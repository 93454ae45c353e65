"""Which point comes next: those decided beforehand first, then what another searcher suggests."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from ray_trash.tune.search import Point, PointSearch


class Suggests(Searcher):
    """Suggests one value after another, and remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.suggested, self.told, self.completed = 0, [], []  # type: ignore[var-annotated]

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.suggested += 1
        return {"model.dropout": self.suggested / 10}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self.completed.append((trial_id, result))

    def add_evaluated_point(self, parameters: dict[str, Any], value: float, *_: Any, **__: Any) -> None:
        if parameters["model.dropout"] > 1:
            raise ValueError("outside the space")
        self.told.append((parameters, value))

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...


def a_search(*values: float, further: Searcher | None = None) -> PointSearch:
    points = [Point.of_trial(number, {"model.dropout": value}) for number, value in enumerate(values)]
    search = PointSearch(points, further)
    search.set_search_properties("val_loss", "min", {})
    return search


def test_points_come_in_their_order_and_then_there_are_no_more() -> None:
    search = a_search(0.0, 0.5)
    given = [search.suggest(name) for name in "ab"]
    assert given == [
        {"number": 0, "run": "trials/000", "params": {"model.dropout": 0.0}},
        {"number": 1, "run": "trials/001", "params": {"model.dropout": 0.5}},
    ]
    assert str(search.suggest("c")) == Searcher.FINISHED
    assert Point(**given[1] or {}) == Point(1, "trials/001", {"model.dropout": 0.5})


def test_another_searcher_goes_on_with_the_numbers_and_learns_from_every_result() -> None:
    further = Suggests()
    search = a_search(0.0, further=further)
    search.suggest("first")
    assert search.suggest("second") == {"number": 1, "run": "trials/001", "params": {"model.dropout": 0.1}}
    search.on_trial_complete("first", {"val_loss": 2.0})
    search.on_trial_complete("second", {"val_loss": 1.0})
    assert further.told == [({"model.dropout": 0.0}, 2.0)]
    assert further.completed == [("second", {"val_loss": 1.0})]


def test_a_point_outside_the_space_and_one_without_a_result_teach_nothing() -> None:
    further = Suggests()
    search = a_search(1.5, 0.2, further=further)
    search.suggest("outside")
    search.suggest("failed")
    search.on_trial_complete("outside", {"val_loss": 2.0})
    search.on_trial_complete("failed", None, error=True)
    assert further.told == []
