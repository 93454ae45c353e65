from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ray_trash.errors import CheckpointError
from ray_trash.model.checkpoint import MARKER, write_checkpoint
from ray_trash.model.weights import load_pretrained


def loaded(network, state) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_none_loads_nothing(tiny_network, tiny_state):
    before = {name: tensor.clone() for name, tensor in tiny_network.state_dict().items()}
    assert "random" in load_pretrained(tiny_network, "none")[0]
    assert loaded(tiny_network, before)


def as_safetensors(state, path: Path) -> None:
    save_file(state, path)


def as_torch(state, path: Path) -> None:
    torch.save(state, path)


def as_old_torch(state, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def as_training_state(state, path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, path)


def as_wrapped_model(state, path: Path) -> None:
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path)


@pytest.mark.parametrize("save", [as_safetensors, as_torch, as_old_torch, as_training_state, as_wrapped_model])
def test_files_are_read_by_content_whatever_their_name(tmp_path, tiny_network, tiny_state, save):
    save(tiny_state, path := tmp_path / "weights.bin")
    lines = load_pretrained(tiny_network, str(path))
    assert loaded(tiny_network, tiny_state)
    kind = "safetensors" if save is as_safetensors else "torch state dict"
    assert lines == [f"9 tensors from {path} ({kind})"]


def test_a_uri_is_read(tmp_path, tiny_network, tiny_state):
    save_file(tiny_state, path := tmp_path / "w.safetensors")
    load_pretrained(tiny_network, path.as_uri())
    assert loaded(tiny_network, tiny_state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_formats_become_float32(tmp_path, tiny_network, tiny_state, dtype):
    cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tiny_state.items()}
    save_file(cast, path := tmp_path / "w.safetensors")
    load_pretrained(tiny_network, str(path))
    assert all(p.dtype == torch.float32 for p in tiny_network.parameters())
    assert torch.equal(tiny_network.conv1.weight, cast["conv1.weight"].float())


def test_a_head_of_another_width_stays_fresh_and_is_named(tmp_path, tiny_network, tiny_state):
    fresh = tiny_network.fc.weight.clone()
    wide = {**tiny_state, "fc.weight": torch.zeros(1000, 4), "fc.bias": torch.zeros(1000)}
    save_file(wide, path := tmp_path / "w.safetensors")
    lines = load_pretrained(tiny_network, str(path))
    assert lines[1] == "the file's head of 1000 classes is not used: that of 3 classes starts fresh"
    assert torch.equal(tiny_network.fc.weight, fresh)
    assert torch.equal(tiny_network.conv1.weight, tiny_state["conv1.weight"])


def test_a_file_without_head_is_taken(tmp_path, tiny_network, tiny_state):
    body = {name: tensor for name, tensor in tiny_state.items() if not name.startswith("fc.")}
    save_file(body, path := tmp_path / "w.safetensors")
    assert "no head" in load_pretrained(tiny_network, str(path))[1]
    assert torch.equal(tiny_network.conv1.weight, tiny_state["conv1.weight"])


def test_an_old_file_without_batch_counters_is_taken(tmp_path, tiny_network, tiny_state):
    del tiny_state["bn1.num_batches_tracked"]
    save_file(tiny_state, path := tmp_path / "w.safetensors")
    assert "batch counters" in load_pretrained(tiny_network, str(path))[1]
    assert tiny_network.bn1.num_batches_tracked == 0
    assert torch.equal(tiny_network.bn1.running_mean, tiny_state["bn1.running_mean"])


def test_tensors_that_do_not_fit_are_named_and_nothing_is_loaded(tmp_path, tiny_network, tiny_state):
    before = {name: tensor.clone() for name, tensor in tiny_network.state_dict().items()}
    tiny_state["conv1.weight"] = torch.zeros(4, 3, 7, 7)
    tiny_state["layer9.weight"] = tiny_state.pop("bn1.weight")
    tiny_state["bn1.bias"] = tiny_state["bn1.bias"].int()
    save_file(tiny_state, path := tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(tiny_network, str(path))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for part in (
        "1 missing: bn1.weight",
        "1 unexpected: layer9.weight",
        "conv1.weight 4x3x7x7 instead of 4x3x3x3",
        "bn1.bias (int32 instead of float32)",
    ):
        assert part in message
    assert loaded(tiny_network, before)


def test_many_tensors_that_do_not_fit_are_counted(tmp_path, tiny_network):
    save_file({f"other{i}": torch.zeros(1) for i in range(40)}, path := tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"6 missing: .* and 1 more; 40 unexpected: .* and 35 more"):
        load_pretrained(tiny_network, str(path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path, tiny_network, tiny_state, value):
    tiny_state["bn1.running_var"][1] = value
    save_file(tiny_state, path := tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"not finite: bn1\.running_var"):
        load_pretrained(tiny_network, str(path))


def test_a_checkpoint_is_taken(tmp_path, tiny_network, tiny_state, document):
    write_checkpoint(tmp_path, tiny_state, document)
    assert load_pretrained(tiny_network, str(tmp_path)) == [f"9 tensors from {tmp_path} (checkpoint)"]
    assert loaded(tiny_network, tiny_state)
    (tmp_path / MARKER).unlink()
    with pytest.raises(CheckpointError, match="complete checkpoint"):
        load_pretrained(tiny_network, str(tmp_path))


def test_a_path_with_nothing_there_is_named(tmp_path, tiny_network):
    with pytest.raises(CheckpointError, match=f"nothing at {tmp_path}/imagnet; give imagenet, none"):
        load_pretrained(tiny_network, str(tmp_path / "imagnet"))


class Attack:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("save", [torch.save, as_old_torch, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(tmp_path, tiny_network, tiny_state, save):
    canary = tmp_path / "canary"
    save({**tiny_state, "extra": Attack(canary)}, path := tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="without running code") as caught:
        load_pretrained(tiny_network, str(path))
    assert not canary.exists()
    assert "weights_only" not in str(caught.value)


def test_a_pickled_network_is_refused(tmp_path, tiny_network):
    torch.save(tiny_network, path := tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"torch\.save\(network\.state_dict\(\), path\)"):
        load_pretrained(tiny_network, str(path))


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {"a": 1}}, torch.zeros(3)])
def test_what_is_no_table_of_tensors_is_refused(tmp_path, tiny_network, content):
    torch.save(content, path := tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="not a table of named tensors"):
        load_pretrained(tiny_network, str(path))


def test_sparse_tensors_are_refused(tmp_path, tiny_network, tiny_state):
    torch.save({**tiny_state, "conv1.weight": torch.zeros(4, 3).to_sparse()}, path := tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="not a table of named tensors"):
        load_pretrained(tiny_network, str(path))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02", b"PK\x03\x04", b"\0" * 8 + b"{", b"<html>"])
def test_junk_is_refused_by_name(tmp_path, tiny_network, content):
    (path := tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"^{path}: "):
        load_pretrained(tiny_network, str(path))


@pytest.mark.parametrize("save", [as_safetensors, as_torch, as_old_torch])
def test_a_truncated_file_is_refused_at_any_length(tmp_path, tiny_network, tiny_state, save):
    save(tiny_state, path := tmp_path / "w.bin")
    whole = path.read_bytes()
    for length in range(1, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=f"^{path}: "):
            load_pretrained(tiny_network, str(path))
