"""One local Ray for the whole level."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    token = tmp_path_factory.mktemp("ray") / "auth_token"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef" * 4)
    environment = pytest.MonkeyPatch()
    environment.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
    environment.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Ray reads some of these when it is imported.
    import ray

    ray.init(
        num_cpus=4,
        object_store_memory=500_000_000,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
    environment.undo()
