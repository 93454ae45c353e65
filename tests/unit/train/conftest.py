"""What is trained here is a shallow ResNet: the same stages and shapes, at a tenth of the cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.models import shallow_resnets


@pytest.fixture(scope="package", autouse=True)
def shallow_resnet() -> Iterator[None]:
    with shallow_resnets():
        yield
