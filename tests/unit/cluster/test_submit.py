"""What a cluster may answer to a job and to whoever follows it, and what a person then reads."""

from __future__ import annotations

import gc
import io
import json
import os
import signal
import socket
import tomllib
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from ray_trash.cli import main
from ray_trash.cluster import submit, way_on
from ray_trash.cluster.jobs import LEAST_RAY, Jobs, job_address
from ray_trash.cluster.package import choose_files
from ray_trash.cluster.submit import follow_job, start_job
from ray_trash.errors import ClusterError
from ray_trash.terminal.say import Terminal
from tests.company_proxy import company_proxy
from tests.dashboard import NO_AGENT, TAKEN, Dashboard, answering

# Ray's own client asks aiohttp in a way that is about to go.
pytestmark = pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning")

ROOT = Path(__file__).parents[3]
RUNNING = {"status": "RUNNING"}
DONE = {"status": "SUCCEEDED", "driver_exit_code": 0}


class Said(Terminal):
    """A terminal that remembers."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO(), width=1000))

    @property
    def lines(self) -> list[str]:
        assert isinstance(self.console.file, io.StringIO)
        return self.console.file.getvalue().splitlines()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(submit, "RETRY_EVERY_S", 0.01)
    monkeypatch.setattr(way_on, "_WAYS_ON", ["nothing was started"])


@pytest.fixture
def dashboard() -> Dashboard:
    return Dashboard()


@pytest.fixture
def jobs(dashboard: Dashboard) -> Iterator[Jobs]:
    with answering(dashboard) as url:
        yield Jobs.at(url)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("10.0.0.1:8265", "has no http:// in front; jobs are taken by the dashboard, such as http://10.0.0.1:8265"),
        (
            "10.0.0.1:6379",
            "is where machines join a cluster; jobs are taken by the dashboard, such as http://10.0.0.1:8",
        ),
        ("ray://head:10001", "is an address of Ray Client; jobs are taken by the dashboard, such as http://head:8265"),
        ("http://head:6379", "is where machines join a cluster"),
        ("ftp://head", "is no address of HTTP"),
        ("http://", "is no address of HTTP"),
        ("http://head:port", "is no address of HTTP"),
        ("[::1]:8265", r"such as http://\[::1\]:8265"),
    ],
)
def test_an_address_that_is_no_dashboard_s_is_refused_with_the_one_to_give(given: str, words: str) -> None:
    with pytest.raises(ClusterError, match=words):
        job_address(given)


def test_the_argument_is_taken_before_the_variables_of_ray_and_without_any_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert job_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert job_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(ClusterError, match=r"^RAY_ADDRESS=10.0.0.1:6379: is where machines join"):
        job_address(None)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://ray.example/jobs/")
    assert job_address(None) == "https://ray.example/jobs"
    assert job_address("http://head:80") == "http://head:80"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"refuses": (401, "Unauthorized: Missing authentication token")}, "none was sent; set RAY_AUTH_MODE=token"),
        ({"refuses": (403, "Forbidden: Invalid authentication token")}, "the one sent is another; set RAY_AUTH_MODE"),
        ({"refuses": (404, "nothing here")}, "something else than Ray's dashboard answers there"),
        ({"refuses": (200, "<html>")}, "something else than Ray's dashboard answers there"),
        ({"refuses": (502, "bad gateway")}, "something else than Ray's dashboard answers there"),
        ({"version": {"ray_version": "2.9.3"}}, "the cluster has Ray 2.9.3, and this needs 2.60 or newer there"),
        ({"version": {"ray_version": "1.13.0"}}, "Ray version 1.13.0"),
        ({"version": {"hello": 1}}, "something else than Ray's dashboard answers there"),
    ],
)
def test_a_cluster_that_takes_no_jobs_of_ours_is_one_line(answer: dict[str, Any], words: str) -> None:
    with answering(Dashboard(**answer)) as url, pytest.raises(ClusterError, match=words) as raised:
        Jobs.at(url)
    assert "\n" not in str(raised.value)


def test_an_address_where_nobody_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match=r"http://127.0.0.1:9: nobody answers there; is the cluster up"):
        Jobs.at("http://127.0.0.1:9")
    monkeypatch.setattr("ray_trash.cluster.jobs.ANSWER_TIMEOUT_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ClusterError, match="nobody answers there"):
            Jobs.at(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_cluster_behind_a_company_s_proxy_is_reached_once_its_authority_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://ray.example"
    with company_proxy(tmp_path, host="ray.example", content=b'{"ray_version": "2.60.0"}') as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
        with pytest.raises(ClusterError, match=f"^{url}: its certificate is not trusted here; set REQUESTS_CA_BUNDLE"):
            Jobs.at(url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(proxy.authority))
        assert Jobs.at(url).address == url


def test_a_job_agent_that_is_still_starting_is_waited_for(dashboard: Dashboard, jobs: Jobs, tmp_path: Path) -> None:
    refused = web_error("aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host 10.0.0.1:52365")
    dashboard.to_submit = [NO_AGENT, refused, TAKEN]
    (tmp_path / "a.yaml").write_text("a: 1")
    said = Said()
    job_id = start_job(jobs, ["train", "my file.yaml"], choose_files(tmp_path), terminal=said)
    asked = dashboard.submitted
    assert [request["submission_id"] for request in asked] == [job_id] * 3, "one job, however often it is asked for"
    assert asked[0]["entrypoint"] == "python -m ray_trash train 'my file.yaml'"
    assert len([line for line in said.lines if "its job agent is still starting" in line]) == 1
    (package,) = dashboard.packages.values()
    names = zipfile.ZipFile(io.BytesIO(package)).namelist()
    assert {"a.yaml", "ray_trash/__main__.py"} <= set(names)


def test_a_job_agent_that_never_comes_has_a_deadline(
    dashboard: Dashboard, jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "AGENT_TIMEOUT_S", 0.05)
    dashboard.to_submit = [NO_AGENT]
    with pytest.raises(ClusterError, match=r"no job was taken within 0.05 s: its job agent is still starting"):
        start_job(jobs, ["audit", "s3://b/photos"], choose_files(tmp_path), terminal=Terminal.silent())


def test_an_answer_that_was_lost_starts_no_second_job_and_a_refusal_is_said_in_its_last_line(
    dashboard: Dashboard, jobs: Jobs, tmp_path: Path
) -> None:
    package = choose_files(tmp_path)
    dashboard.to_submit = [NO_AGENT, web_error("ValueError: Job with submission_id x already exists. Please use", 400)]
    start_job(jobs, ["config", "a"], package, terminal=Terminal.silent())
    dashboard.to_submit = [web_error("Traceback (most recent call last):\n  File\nValueError: the reason", 400)]
    with pytest.raises(ClusterError, match=f"^{jobs.address}: ValueError: the reason$"):
        start_job(jobs, ["config", "a"], package, terminal=Terminal.silent())


def test_a_package_is_gone_from_this_machine_once_the_job_is_taken(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, folder = tmp_path / "scratch", tmp_path / "folder"
    scratch.mkdir()
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    start_job(jobs, ["config", "a"], choose_files(folder), terminal=Terminal.silent())
    assert not os.listdir(scratch)


def test_output_is_printed_once_though_the_connection_is_cut_in_the_middle_of_a_line(
    dashboard: Dashboard, jobs: Jobs
) -> None:
    dashboard.output = "one\ntwo\nthree\nfour"
    dashboard.chunks = [["one\ntw"], ["one\n"], None, ["one\ntwo\nth", "ree\n"]]
    dashboard.details = [RUNNING, RUNNING, RUNNING, DONE]
    said = Said()
    outcome = follow_job(jobs, "the-id", terminal=said)
    assert said.lines == ["one", "two", "three", "four"]
    assert outcome.document() == {"job": "the-id", "address": jobs.address, "status": "succeeded", "exit_code": 0}


@pytest.mark.parametrize(
    ("details", "status", "code"),
    [
        ({"status": "FAILED", "driver_exit_code": 5}, "failed", 5),
        ({"status": "FAILED", "driver_exit_code": -9}, "failed", 137),
        ({"status": "STOPPED"}, "stopped", 143),
    ],
)
def test_a_job_ends_as_its_command_did(
    details: dict[str, Any], status: str, code: int, dashboard: Dashboard, jobs: Jobs
) -> None:
    dashboard.details = [details]
    outcome = follow_job(jobs, "the-id", terminal=Terminal.silent())
    assert (outcome.status, outcome.exit_code) == (status, code)


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"status": "FAILED", "message": "runtime_env setup failed: no space\nTraceback"}, "failed: no space$"),
        ({"status": "FAILED", "driver_exit_code": 127}, "the head finds no python"),
    ],
)
def test_a_command_that_never_ran_is_the_cluster_s_failure(
    details: dict[str, Any], words: str, dashboard: Dashboard, jobs: Jobs
) -> None:
    dashboard.details = [details]
    with pytest.raises(ClusterError, match=words):
        follow_job(jobs, "the-id", terminal=Terminal.silent())


def test_a_cluster_that_has_gone_while_a_job_is_followed_is_given_up_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submit, "LOST_TIMEOUT_S", 0.05)
    with answering(Dashboard()) as url:
        jobs = Jobs.at(url)
    said = Said()
    with pytest.raises(ClusterError, match=r"nobody answers there; job the-id goes on. To follow it: RAY_API_SERVER"):
        follow_job(jobs, "the-id", terminal=said)
    assert said.lines == ["the cluster is out of reach; trying again for 0.05 s"]


def test_a_job_that_has_not_started_yet_is_said_to_be_waited_for(
    dashboard: Dashboard, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = {"status": "PENDING", "message": "It may be waiting for the runtime environment."}
    dashboard.details = [waiting, waiting, DONE]
    said = Said()
    follow_job(jobs, "the-id", terminal=said)
    assert said.lines == [
        "waiting for the job to start, as long as the cluster allows: It may be waiting for the runtime environment."
    ]


@pytest.fixture
def signals() -> Iterator[None]:
    """Have the signals afterwards do what they did before a command took them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def submitting(jobs: Jobs, signals: None, tmp_path: Path) -> list[str]:
    (tmp_path / "mine.yaml").write_text("name: mine\nstorage: s3://b/runs\ndata: {root: s3://b/photos}\n")
    return ["submit", "--address", jobs.address, "--working-dir", str(tmp_path)]


def test_the_command_ends_with_the_exit_code_of_the_job_and_prints_one_object(
    dashboard: Dashboard, submitting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    dashboard.details = [{"status": "FAILED", "driver_exit_code": 5}]
    dashboard.output = "epoch 1\nerror: the loss is not a number\n"
    assert main([*submitting, "--json", "train", "mine.yaml", "--set", "train.epochs=1"]) == 5
    out, err = capsys.readouterr()
    (request,) = dashboard.submitted
    assert json.loads(out) == {
        "job": request["submission_id"],
        "address": submitting[2],
        "status": "failed",
        "exit_code": 5,
    }
    assert request["entrypoint"] == "python -m ray_trash train mine.yaml --set train.epochs=1"
    sent, job, *printed, ended = err.splitlines()
    assert sent.startswith("sending ")
    assert job == f"job {request['submission_id']} at {submitting[2]}"
    assert printed == dashboard.output.splitlines()
    assert ended.endswith(" failed with exit code 5: train mine.yaml --set train.epochs=1")


def test_a_detached_job_is_its_id_on_stdout_and_how_to_follow_it(
    dashboard: Dashboard, submitting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*submitting, "--detach", "--", "train", "mine.yaml"]) == 0
    out, err = capsys.readouterr()
    job_id = dashboard.submitted[0]["submission_id"]
    assert out == f"{job_id}\n"
    assert f"To follow it: RAY_API_SERVER_ADDRESS={submitting[2]} ray job logs --follow {job_id}." in err


def test_ctrl_c_ends_the_following_and_says_that_the_job_goes_on(
    dashboard: Dashboard, submitting: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    dashboard.details = [RUNNING]
    dashboard.on_follow = lambda: os.kill(os.getpid(), signal.SIGINT)
    with warnings.catch_warnings():
        # The signal may come while aiohttp makes its connection, which is then left to the end of the process.
        warnings.simplefilter("ignore", ResourceWarning)
        assert main([*submitting, "train", "mine.yaml"]) == 130
        gc.collect()
    job_id = dashboard.submitted[0]["submission_id"]
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"stopped by SIGINT. job {job_id} goes on. To follow it: ")
    assert last.endswith(f"To stop it: RAY_API_SERVER_ADDRESS={submitting[2]} ray job stop {job_id}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "submit: name the command to run, such as `submit train CONFIG`"),
        (["submit", "train"], "submit: a job that submits itself would wait for ever"),
        (["train", "mine.yaml", "--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["train", "mine.yaml", "--set", "train.epoch=1"], "did you mean train.epochs?"),
        (["train", "../mine.yaml"], "is not below "),
    ],
)
def test_a_wrong_command_is_refused_here_and_nothing_is_sent(
    words: list[str],
    said: str,
    dashboard: Dashboard,
    submitting: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*submitting, *words]) == 2
    assert said in capsys.readouterr().err
    assert not dashboard.submitted


def test_the_oldest_ray_is_that_of_the_project() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (ray,) = [Requirement(text) for text in dependencies if text.startswith("ray[")]
    assert str(ray.specifier) == f">={LEAST_RAY}"


def web_error(text: str, status: int = 500) -> Any:
    return NO_AGENT[0], status, text
