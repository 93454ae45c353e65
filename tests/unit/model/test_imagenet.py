from __future__ import annotations

import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from safetensors.torch import save

from ray_trash.errors import CheckpointError, StorageError
from ray_trash.model.imagenet import imagenet_file
from ray_trash.model.resnet import ResNet50_Weights
from ray_trash.model.weights import load_pretrained

CONTENT = b"not really weights" * 100
NAME = f"tiny-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Host:
    """A stand-in for torchvision's download host, on loopback."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut_to_bytes: int | None = None
        self.requests: list[str] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.requests.append(self.path)
                data = host.files.get(self.path)
                if data is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: host.cut_to_bytes])

            def log_message(self, *args) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    host = Host()
    host.files[f"/{NAME}"] = CONTENT
    thread = threading.Thread(target=host.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield host
    host.server.shutdown()
    thread.join()
    host.server.server_close()


def test_the_file_is_downloaded_once(tmp_path, host):
    cache = tmp_path / "a" / "b"
    first = imagenet_file(cache_dir=cache, url=host.url(NAME))
    again = imagenet_file(cache_dir=cache, url=host.url(NAME))
    assert first == again == cache / NAME
    assert first.read_bytes() == CONTENT
    assert len(host.requests) == 1
    assert [path.name for path in cache.iterdir()] == [NAME]


def test_downloaded_weights_reach_the_network(tmp_path, host, tiny_network, tiny_state):
    data = save(tiny_state)
    name = f"w-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    host.files[f"/{name}"] = data
    lines = load_pretrained(tiny_network, "imagenet", cache_dir=tmp_path, url=host.url(name))
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
        imagenet_file(cache_dir=tmp_path, url=host.url("gone-12345678.pth"))


@pytest.mark.parametrize("n_bytes", [0, 10, len(CONTENT) - 1])
def test_a_download_that_breaks_off_leaves_nothing(tmp_path, host, n_bytes):
    host.cut_to_bytes = n_bytes
    with pytest.raises(CheckpointError, match=NAME):
        imagenet_file(cache_dir=tmp_path, url=host.url(NAME))
    assert list(tmp_path.iterdir()) == []


def test_a_download_of_something_else_leaves_nothing(tmp_path, host):
    host.files[f"/{NAME}"] = b"<html>please log in</html>"
    with pytest.raises(CheckpointError, match="came damaged, 26 bytes"):
        imagenet_file(cache_dir=tmp_path, url=host.url(NAME))
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_in_the_cache_is_named_with_what_to_do(tmp_path, host):
    (tmp_path / NAME).write_bytes(CONTENT[:50])
    with pytest.raises(CheckpointError, match=f"^{tmp_path / NAME}: damaged, 50 bytes.*delete the file"):
        imagenet_file(cache_dir=tmp_path, url=host.url(NAME))
    assert host.requests == []


def test_a_name_without_digest_is_refused(tmp_path, host):
    host.files["/plain.pth"] = CONTENT
    with pytest.raises(CheckpointError, match="no SHA-256 digits"):
        imagenet_file(cache_dir=tmp_path, url=host.url("plain.pth"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path, host):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=f"{tmp_path}/file/cache"):
        imagenet_file(cache_dir=tmp_path / "file" / "cache", url=host.url(NAME))


def test_the_default_is_torchvisions_file_in_torch_home(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = ResNet50_Weights.IMAGENET1K_V2.url.rpartition("/")[2]
    (target := tmp_path / "hub" / "checkpoints" / name).parent.mkdir(parents=True)
    target.write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=f"^{target}: damaged, 3 bytes"):
        imagenet_file()
