"""Two sides compared, as one JSON document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ray_trash.compare.answers import Answers
from ray_trash.compare.matching import Matching, Photo
from ray_trash.compare.paired import Paired
from ray_trash.config import by_dotted_key
from ray_trash.evaluate.metrics import wilson_interval


def comparison(first: Answers, second: Answers, matching: Matching) -> dict[str, Any]:
    """Count what two sides say of their common photos.

    Returns:
        `matched_by`, `n`, `agree` (the same class said); where the true classes are known `a` and `b` {correct,
        accuracy, accuracy_ci95}, `difference` (b less a, -1..1) with `difference_ci95`, `p_value`, `significant`,
        `per_class`, `only_a_right` and `only_b_right`; `only_in_a`, `only_in_b` and `relabelled`, paths; `config`, the
        keys in which the two trainings differ; `warnings`.
    """
    photos = matching.photos
    document: dict[str, Any] = {
        "matched_by": matching.by,
        "truth": matching.truth,
        "n": len(photos),
        "agree": sum(photo.first == photo.second for photo in photos),
        "a": _side(first),
        "b": _side(second),
    }
    if matching.truth is not None and photos:
        paired = _paired(photos)
        document["a"] |= _share(paired.first, paired.n)
        document["b"] |= _share(paired.second, paired.n)
        document |= {
            "difference": paired.difference,
            "difference_ci95": list(paired.difference_ci95),
            "p_value": paired.p_value,
            "significant": paired.is_significant,
            "per_class": _per_class(photos),
            "only_a_right": [_said(photo) for photo in photos if _right(photo) == (True, False)],
            "only_b_right": [_said(photo) for photo in photos if _right(photo) == (False, True)],
        }
    return document | {
        "only_in_a": list(matching.only_first),
        "only_in_b": list(matching.only_second),
        "relabelled": list(matching.relabelled),
        "config": config_difference(first.config, second.config),
        "warnings": list(_warnings(first, second, matching)),
    }


def config_difference(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> dict[str, list[Any]] | None:
    """Return the dotted keys in which two configs differ, with both values; None where one is not known."""
    if first is None or second is None:
        return None
    ours, theirs = by_dotted_key(first), by_dotted_key(second)
    return {
        key: [ours.get(key), theirs.get(key)]
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    }


def _side(answers: Answers) -> dict[str, Any]:
    return {"from": answers.shown, "model": answers.model, "unanswered": answers.unanswered}


def _share(correct: int, n: int) -> dict[str, Any]:
    return {"correct": correct, "accuracy": correct / n, "accuracy_ci95": list(wilson_interval(correct, n))}


def _right(photo: Photo) -> tuple[bool, bool]:
    return photo.first == photo.true_label, photo.second == photo.true_label


def _paired(photos: Sequence[Photo]) -> Paired:
    right = np.array([_right(photo) for photo in photos])  # (N, 2)
    return Paired.of(right[:, 0], right[:, 1])


def _per_class(photos: Sequence[Photo]) -> dict[str, dict[str, Any]]:
    figures = {}
    for name in sorted({str(photo.true_label) for photo in photos}):
        paired = _paired([photo for photo in photos if photo.true_label == name])
        figures[name] = {
            "n": paired.n,
            "a_correct": paired.first,
            "b_correct": paired.second,
            "difference": paired.difference,
            "difference_ci95": list(paired.difference_ci95),
        }
    return figures


def _said(photo: Photo) -> dict[str, Any]:
    return {
        "path": photo.path,
        "true_label": photo.true_label,
        "a": {"label": photo.first, "confidence": photo.first_confidence, "abstained": photo.first_abstained},
        "b": {"label": photo.second, "confidence": photo.second_confidence, "abstained": photo.second_abstained},
    }


def _warnings(first: Answers, second: Answers, matching: Matching) -> Iterator[str]:
    if matching.by == "path":
        yield "matched by path, since scores do not say a photo's content: both must be of the same folder"
    if matching.truth == "folders":
        yield "the true class is taken to be the folder in a photo's path"
    if matching.truth is None:
        yield "nothing says the true classes, so only agreement is counted; `ray-trash evaluate` knows them"
    unlike = sorted(set(first.classes) ^ set(second.classes))
    if unlike:
        yield f"the two do not know the same classes; only one knows {', '.join(map(repr, unlike))}"
    for side, other, n in ((first, second, len(matching.only_first)), (second, first, len(matching.only_second))):
        if n:
            yield f"{n} photos are in {side.shown} only, and not compared with {other.shown}"
    if matching.relabelled:
        yield f"{len(matching.relabelled)} photos have another true class in the two, and are in neither count"
