from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ray_trash.image.symmetry import SYMMETRIES, symmetric_views
from ray_trash.image.tensor import symmetries
from tests.encoded import smooth_photo

SQUARE = smooth_photo(9, 9)


def test_symmetries_are_the_eight_of_the_square():
    found = symmetric_views(SQUARE)
    expected = [np.rot90(side, k) for side in (SQUARE, SQUARE[:, ::-1]) for k in range(4)]
    np.testing.assert_array_equal(found, expected)
    assert len({view.tobytes() for view in found}) == 8
    assert symmetric_views(SQUARE, 1)[0] is not None
    np.testing.assert_array_equal(symmetric_views(SQUARE, 1), [SQUARE])


def test_arrays_tensors_and_pillow_agree_on_every_symmetry():
    batch = torch.from_numpy(SQUARE.copy()).permute(2, 0, 1)[None].float()
    image = Image.fromarray(SQUARE)
    views = zip(SYMMETRIES, symmetric_views(SQUARE), symmetries(batch, 8), strict=True)
    for symmetry, view, tensor in views:
        np.testing.assert_array_equal(tensor[0].permute(1, 2, 0).numpy(), view)
        turned = image if symmetry.transpose is None else image.transpose(symmetry.transpose)
        np.testing.assert_array_equal(np.asarray(turned), view)


def test_one_view_is_the_batch_itself():
    batch = torch.zeros(1, 3, 4, 4)
    assert symmetries(batch, 1)[0] is batch
    assert len(symmetries(batch, 1)) == 1
