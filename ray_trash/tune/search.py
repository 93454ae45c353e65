"""Which point the next trial is trained with: those decided beforehand, then Optuna's, if it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from ray.tune.search import Searcher

from ray_trash.tune.trials import Params

TRIALS = "trials"
"""Folder of the trials' run directories in a sweep's."""
_FINISHED = cast("dict[str, Any]", Searcher.FINISHED)


@dataclass(frozen=True)
class Point:
    """What one training of a sweep is given: its trial's number, its run directory below the sweep's, and values.

    Ray Tune carries it as a dict.
    """

    number: int
    run: str
    params: Params

    @classmethod
    def of_trial(cls, number: int, params: Params) -> Point:
        """Give a trial its run directory."""
        return cls(number, f"{TRIALS}/{number:03d}", params)


class PointSearch(Searcher):
    """Gives Ray Tune its points one by one."""

    def __init__(self, points: Sequence[Point], further: Searcher | None = None) -> None:
        """Give out points, then ask another searcher, which learns from the results of all of them."""
        super().__init__()
        self._points, self._further = list(points), further
        self._given: dict[str, Point] = {}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Take over what is optimised; the space is fixed at construction."""
        self._metric, self._mode = metric, mode
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next point."""
        number = len(self._given)
        if number < len(self._points):
            point = self._points[number]
        elif self._further is None:
            return _FINISHED
        else:
            params = self._further.suggest(trial_id)
            if params is None or params == _FINISHED:
                return params
            point = Point.of_trial(number, params)
        self._given[trial_id] = point
        return asdict(point)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Let the further searcher learn from a result."""
        point = self._given.get(trial_id)
        if self._further is None or point is None:
            return
        if point.number >= len(self._points):
            self._further.on_trial_complete(trial_id, result, error)
        elif result and self._metric in result:
            try:
                self._further.add_evaluated_point(dict(point.params), result[self._metric])
            except ValueError:
                return  # the config as written may lie outside the space, and then it teaches nothing

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: a sweep goes on from its own record of its trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""
