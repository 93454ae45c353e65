"""The OpenAPI description is true: requests made from it, valid and not, get only answers that are in it."""

from __future__ import annotations

from typing import Any

import pytest

from ray_trash.config import ServeConfig
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from ray_trash.serve.parsing import ANY_TYPE, FIELD, IMAGE_TYPES
from tests.unit.serve.backends import GOOD, FakeBackend

# Others' code, on every request.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def api() -> Any:
    # Loads for seconds, and at the top of the file it would in every test process.
    import schemathesis
    from hypothesis import strategies

    for kind in (*IMAGE_TYPES, ANY_TYPE):
        schemathesis.openapi.media_type(kind, strategies.just(GOOD))
    gateway = Gateway(FakeBackend(), ServeConfig(explain=True), keys=Keys())
    return schemathesis.openapi.from_asgi("/openapi.json", gateway.application())


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_answer_is_one_that_is_described(api: Any, mode: str) -> None:
    from hypothesis import HealthCheck, assume, given, settings
    from schemathesis import GenerationMode

    tried = []
    for found in api.get_all_operations():
        operation = found.ok()
        if mode == "negative" and not operation.body:
            continue  # a request without anything in it cannot be wrong

        @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        def check(case: Any) -> None:
            if case.media_type == "multipart/form-data" and isinstance(case.body, dict):
                # A field of no values is no part of a form: without it the request may be a valid one.
                assume(all(values != [] for name, values in case.body.items() if name != FIELD))
            case.call_and_validate()

        check()
        tried.append(operation.label)
    assert "POST /v1/score" in tried
