"""The OpenAPI description is true: requests made from it, valid and not, get only answers that are in it."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_trash.config import ServeConfig
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.parsing import IMAGE_TYPES
from tests.unit.serve.backends import GOOD, FakeBackend

# Others' code, on every request.
pytestmark = pytest.mark.filterwarnings("default")

for kind in IMAGE_TYPES:
    schemathesis.openapi.media_type(kind, st.just(GOOD))


@pytest.fixture(scope="module")
def api() -> Any:
    gateway = Gateway(FakeBackend(), ServeConfig(), api_key=None)
    return schemathesis.openapi.from_asgi("/openapi.json", gateway.application())


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.name.lower())
def test_every_answer_is_one_that_is_described(api: Any, mode: schemathesis.GenerationMode) -> None:
    tried = []
    for found in api.get_all_operations():
        operation = found.ok()
        if mode is schemathesis.GenerationMode.NEGATIVE and not operation.body:
            continue  # a request without anything in it cannot be wrong

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def check(case: Any) -> None:
            case.call_and_validate()

        check()
        tried.append(operation.label)
    assert "POST /v1/score" in tried
