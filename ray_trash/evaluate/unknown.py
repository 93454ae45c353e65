"""Pictures of nothing, brought to the network's square like photos: which of them a checkpoint does not answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_trash.evaluate.metrics import wilson_interval
from ray_trash.fetch.unknown import unknown_pictures
from ray_trash.image.preprocess import Preprocessing, fit_photo, store_photo

PER_KIND = 20
"""Pictures of each kind: over all five, the rate's interval is at most 20 points wide."""
N_PICTURES = 5 * PER_KIND


def draw_unknown(preprocessing: Preprocessing) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """Return the kind of each picture, and the squares (K, S, S, 3) uint8; the same ones at every call."""
    kinds, pictures = zip(*unknown_pictures(PER_KIND), strict=True)
    return kinds, np.stack([fit_photo(store_photo(picture, preprocessing), preprocessing) for picture in pictures])


def unknown_figures(kinds: Sequence[str], abstained: NDArray[np.bool_]) -> dict[str, Any]:
    """Count which of the pictures (K,) `Calibration.abstains` from, over all and by kind, as JSON holds it."""
    n, n_abstained = len(kinds), int(abstained.sum())
    of_kind, left = Counter(kinds), Counter(np.array(kinds)[abstained].tolist())
    return {
        "n": n,
        "abstained": n_abstained,
        "rate": n_abstained / n,
        "rate_ci95": list(wilson_interval(n_abstained, n)),
        "by_kind": {kind: {"n": of_kind[kind], "abstained": left[kind]} for kind in of_kind},
    }
