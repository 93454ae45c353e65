"""What is said of a deployment, and what is taken away with it; only Ray Serve is made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.errors import ClusterError, ConfigError
from tests.unit.serve.backends import CARD

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MODEL = "ray-trash-model-0123abcd"
REFUSED = {
    "status": "refused",
    "checkpoint": "new",
    "at": "2026-01-01",
    "detail": "the checkpoint: answered differently",
}


def about(status: str = "RUNNING", message: str = "", **running: int) -> Any:
    deployments = {
        name: SimpleNamespace(replica_states={"RUNNING": n} if n else {"STARTING": 1}, message="")
        for name, n in running.items()
    }
    return SimpleNamespace(status=status, message=message, deployments=deployments)


class Serve:
    """Ray Serve as far as it is looked at: an application that is deleted is gone, if it may go."""

    def __init__(self) -> None:
        self.applications: dict[str, Any] = {"other": about(Models=1, Gateway=1), "ray-trash-model-of-others": about()}
        self.state: Any = None
        self.stays: set[str] = set()

    def status(self) -> Any:
        return SimpleNamespace(applications=dict(self.applications))

    def delete(self, name: str, *, _blocking: bool) -> None:
        if name not in self.stays:
            del self.applications[name]

    def get_deployment_handle(self, deployment: str, name: str) -> Any:
        def result(timeout_s: float) -> Any:
            if self.state is None:
                raise TimeoutError
            return self.state

        return SimpleNamespace(state=SimpleNamespace(remote=lambda: SimpleNamespace(result=result)))


@pytest.fixture
def ray_serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    from ray_trash.serve import deployment

    made_up = Serve()
    notices: dict[str, Any] = {}
    monkeypatch.setattr(deployment, "serve", made_up)
    monkeypatch.setattr(deployment, "notice", SimpleNamespace(read=lambda name: notices.get(name, {}), take_down=str))
    monkeypatch.setattr(deployment, "DOWN_TIMEOUT_S", 0.1)
    monkeypatch.setattr(made_up, "notices", notices, raising=False)
    return made_up


def state_of(application: str | None = MODEL, swap: Any = None) -> Any:
    from ray_trash.serve.follower import FleetState

    return FleetState(application, CARD if application else None, swap)


@pytest.mark.parametrize(
    ("there", "state", "said", "exit_code"),
    [
        ({"ray-trash": about(Models=1, Gateway=2), MODEL: about(Model=3)}, (MODEL, None), "serving", 0),
        ({"ray-trash": about(Models=1, Gateway=2), MODEL: about(Model=3)}, (MODEL, REFUSED), "refused", 4),
        ({"ray-trash": about(Models=1, Gateway=2), MODEL: about(Model=0)}, (MODEL, None), "unhealthy", 6),
        ({"ray-trash": about("UNHEALTHY", Models=1, Gateway=2), MODEL: about(Model=1)}, (MODEL, None), "unhealthy", 6),
        ({"ray-trash": about(Models=1, Gateway=0), MODEL: about(Model=1)}, (MODEL, None), "waiting", 6),
        ({"ray-trash": about("DEPLOYING", Models=0, Gateway=0)}, None, "waiting", 6),
        ({"ray-trash": about("DEPLOY_FAILED", "Traceback\n  here\nConfigError: no")}, None, "unhealthy", 6),
        # Its process is there, and does not answer.
        ({"ray-trash": about(Models=1, Gateway=1)}, None, "waiting", 6),
    ],
)
def test_a_deployment_is_in_one_of_four_states_each_with_its_exit_code(
    there: dict[str, Any], state: Any, said: str, exit_code: int, ray_serve: Serve
) -> None:
    from ray_trash.serve.deployment import look_at

    ray_serve.applications |= there
    ray_serve.state = state and state_of(*state)
    found = look_at("ray-trash")
    assert (found.state, found.exit_code) == (said, exit_code)
    assert (found.detail == "") == (said == "serving")
    assert "Traceback" not in found.detail


def test_a_deployment_without_a_model_says_why_as_its_notice_does(ray_serve: Serve) -> None:
    from ray_trash.serve.deployment import look_at

    ray_serve.applications["ray-trash"] = about("DEPLOYING", Models=0, Gateway=1)
    ray_serve.notices["ray-trash"] = REFUSED  # type: ignore[attr-defined]
    found = look_at("ray-trash")
    assert (found.state, found.model) == ("refused", None)
    assert found.detail.endswith("answered differently")
    ray_serve.notices["ray-trash"] = {"status": "waiting", "detail": "no room"}  # type: ignore[attr-defined]
    assert (look_at("ray-trash").state, look_at("ray-trash").detail) == ("waiting", "no room")


def test_one_that_is_not_there_is_a_mistake_and_those_that_are_there_are_named(ray_serve: Serve) -> None:
    from ray_trash.serve.deployment import look_at, take_down

    for work in (look_at, take_down):
        with pytest.raises(ConfigError, match=r"ray-trash: no such deployment; there is other$"):
            work("ray-trash")
    ray_serve.applications.clear()
    with pytest.raises(ConfigError, match="there is none on this cluster"):
        look_at("ray-trash")


def test_a_deployment_is_taken_away_with_its_models_and_no_other_application(ray_serve: Serve) -> None:
    from ray_trash.serve.deployment import take_down

    others = set(ray_serve.applications)
    ray_serve.applications |= {"ray-trash": about(Models=1), MODEL: about(Model=1)}
    take_down("ray-trash")
    assert set(ray_serve.applications) == others
    # What an end that was cut short has left is taken away too.
    ray_serve.applications[MODEL] = about(Model=1)
    take_down("ray-trash")
    assert set(ray_serve.applications) == others


def test_what_does_not_end_is_named(ray_serve: Serve) -> None:
    from ray_trash.serve.deployment import take_down

    ray_serve.applications |= {"ray-trash": about(Models=1), MODEL: about(Model=1)}
    ray_serve.stays = {MODEL}
    with pytest.raises(ClusterError, match=f"{MODEL} still there after"):
        take_down("ray-trash")
