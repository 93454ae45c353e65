from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ray_trash.evaluate.picture import draw_confusion_matrix


def drawn(confusion, classes) -> Image.Image:
    return Image.open(io.BytesIO(draw_confusion_matrix(confusion, classes, title="abc on test")))


@pytest.mark.parametrize("n_classes", [2, 40])
def test_picture_is_a_png_of_a_size_a_screen_shows(n_classes):
    confusion = np.diag(np.arange(n_classes)) * 1000
    picture = drawn(confusion, [f"class {c}" for c in range(n_classes)])
    assert picture.format == "PNG"
    assert 300 < picture.width < 3000
    assert 300 < picture.height < 3000


def test_a_mistake_is_drawn_in_the_cell_of_its_true_row_and_predicted_column():
    before = np.asarray(drawn(np.diag([5, 5]), ["a", "b"]).convert("L"), np.int16)
    # The true row of b, first column: lower left.
    after = np.asarray(drawn(np.array([[5, 0], [3, 2]]), ["a", "b"]).convert("L"), np.int16)
    changed_rows, changed_columns = np.nonzero(np.abs(after - before) > 20)
    height, width = before.shape
    assert changed_rows.min() > height * 0.35
    assert changed_columns[changed_rows < height * 0.6].min() < width * 0.45


def test_class_names_that_matplotlib_would_read_as_formulas_are_drawn():
    assert drawn(np.eye(2, dtype=np.int64), ["$\\frac$", "a\nb" + "x" * 300]).width < 1500


def test_class_names_of_another_script_are_numbers_with_a_legend_and_no_warning(recwarn: pytest.WarningsRecorder):
    numbered = drawn(np.eye(3, dtype=np.int64), ["纸", "glass", "😀"])
    assert not list(recwarn)
    assert numbered.height > drawn(np.eye(3, dtype=np.int64), ["class 1", "glass", "class 3"]).height


def test_a_class_without_photos_is_drawn():
    drawn(np.array([[3, 1], [0, 0]]), ["a", "b"])


def test_drawing_starts_neither_pyplot_nor_a_backend():
    code = (
        "import sys, numpy\n"
        "from ray_trash.evaluate.picture import draw_confusion_matrix\n"
        "assert 'matplotlib' not in sys.modules\n"
        "draw_confusion_matrix(numpy.eye(2, dtype=int), ['a', 'b'], title='t')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
