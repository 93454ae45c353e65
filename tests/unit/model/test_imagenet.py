from __future__ import annotations

import hashlib
import socket

import pytest
from safetensors.torch import save

from ray_trash.download import Patience
from ray_trash.errors import CheckpointError, StorageError
from ray_trash.model.imagenet import has_imagenet_file, imagenet_file, imagenet_url
from ray_trash.model.weights import load_pretrained
from tests.file_server import file_server

CONTENT = b"not really weights" * 100
NAME = f"tiny-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


PATIENT = Patience(timeout_s=10.0, attempts=3, first_pause_s=0.0)


@pytest.fixture
def host(monkeypatch):
    """A stand-in for torchvision's download host."""
    monkeypatch.setenv("no_proxy", "*")
    with file_server() as host:
        host.files[NAME] = CONTENT
        yield host


def test_whether_the_weights_are_there_is_known_without_a_download(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert not has_imagenet_file()
    kept = tmp_path / "hub" / "checkpoints" / imagenet_url("resnet50").rpartition("/")[2]
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert has_imagenet_file()


def test_the_file_is_downloaded_once(tmp_path, host):
    cache = tmp_path / "a" / "b"
    first = imagenet_file(cache_dir=cache, url=f"{host.url}/{NAME}")
    again = imagenet_file(cache_dir=cache, url=f"{host.url}/{NAME}")
    assert first == again == cache / NAME
    assert first.read_bytes() == CONTENT
    assert len(host.paths) == 1
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_downloaded_weights_reach_the_network(tmp_path, host, tiny_network, tiny_state):
    data = save(tiny_state)
    name = f"w-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    host.files[name] = data
    lines = load_pretrained(tiny_network, "imagenet", cache_dir=tmp_path, url=f"{host.url}/{name}")
    assert str(tmp_path / name) in lines[0]
    assert tiny_network.fc.bias.tolist() == tiny_state["fc.bias"].tolist()


def test_offline_says_the_url_and_where_to_put_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/{NAME}"
        with pytest.raises(CheckpointError) as caught:
            imagenet_file(cache_dir=tmp_path, url=url)
    for part in (url, str(tmp_path / NAME), "model.weights to a file"):
        assert part in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_the_host_does_not_have_is_said(tmp_path, host):
    with pytest.raises(CheckpointError, match="404"):
        imagenet_file(cache_dir=tmp_path, url=f"{host.url}/gone-12345678.pth")


@pytest.mark.parametrize("n_bytes", [0, 10, len(CONTENT) - 1])
def test_a_download_that_breaks_off_leaves_nothing(tmp_path, host, n_bytes):
    host.cut_after, host.without_ranges = [n_bytes] * PATIENT.attempts, True
    with pytest.raises(CheckpointError, match=f"{NAME}: the download broke off 3 times.*put that file at"):
        imagenet_file(cache_dir=tmp_path, url=f"{host.url}/{NAME}", patience=PATIENT)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_goes_on_where_it_stopped(tmp_path, host):
    host.cut_after = [100, 700]
    assert imagenet_file(cache_dir=tmp_path, url=f"{host.url}/{NAME}", patience=PATIENT).read_bytes() == CONTENT
    assert host.ranges == [None, "bytes=100-", "bytes=800-"]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_download_of_something_else_leaves_nothing(tmp_path, host):
    host.files[NAME] = b"<html>please log in</html>"
    with pytest.raises(CheckpointError, match="came damaged, 26 bytes"):
        imagenet_file(cache_dir=tmp_path, url=f"{host.url}/{NAME}")
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_in_the_cache_is_named_with_what_to_do(tmp_path, host):
    (tmp_path / NAME).write_bytes(CONTENT[:50])
    with pytest.raises(CheckpointError, match=f"^{tmp_path / NAME}: damaged, 50 bytes.*delete the file"):
        imagenet_file(cache_dir=tmp_path, url=f"{host.url}/{NAME}")
    assert host.paths == []


def test_a_name_without_digest_is_refused(tmp_path, host):
    host.files["plain.pth"] = CONTENT
    with pytest.raises(CheckpointError, match="no SHA-256 digits"):
        imagenet_file(cache_dir=tmp_path, url=f"{host.url}/plain.pth")


def test_a_folder_that_cannot_be_made_is_named(tmp_path, host):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"{tmp_path}/file/cache"):
        imagenet_file(cache_dir=tmp_path / "file" / "cache", url=f"{host.url}/{NAME}")


def test_the_default_is_torchvisions_file_in_torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = imagenet_url("resnet50").rpartition("/")[2]
    (target := tmp_path / "hub" / "checkpoints" / name).parent.mkdir(parents=True)
    target.write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=f"^{target}: damaged, 3 bytes"):
        imagenet_file()


def test_every_architecture_has_weights_of_its_own():
    names = {imagenet_url(one).rpartition("/")[2].partition("-")[0] for one in ("resnet18", "resnet34", "resnet50")}
    assert names == {"resnet18", "resnet34", "resnet50"}
