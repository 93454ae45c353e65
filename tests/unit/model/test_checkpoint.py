from __future__ import annotations

import hashlib
import json
import math
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pyarrow import fs

from ray_trash.errors import CheckpointError
from ray_trash.model.card import CARD_FILE, model_card
from ray_trash.model.checkpoint import MARKER, open_checkpoint, write_checkpoint
from ray_trash.storage import Storage

FILES = ("weights.safetensors", "checkpoint.json", "trainer/state.pt")
TRAINER_TENSORS = {
    "optimizer.state.0.step": torch.tensor(3.0),
    "generator": torch.arange(16, dtype=torch.uint8),
    "ema": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "transposed": torch.arange(6, dtype=torch.int64).reshape(2, 3).T,
    "empty": torch.zeros(0, 4),
}
TRAINER_VALUES = {"lr": 0.1 + 0.2, "best": -math.inf, "epoch": 4, "history": [{"a": None}], "betas": (0.9, 0.999)}
TRAINER = {**TRAINER_TENSORS, **TRAINER_VALUES, "worst": math.nan}


@pytest.fixture
def directory(tmp_path, tiny_state, document) -> Path:
    write_checkpoint(tmp_path / "epoch-4", tiny_state, document, trainer=TRAINER)
    return tmp_path / "epoch-4"


def reseal(directory: Path) -> None:
    """Make the marker fit files that were changed on purpose."""
    marker = json.loads((directory / MARKER).read_text())
    for name, entry in marker["files"].items():
        data = (directory / name).read_bytes()
        entry.update(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (directory / MARKER).write_text(json.dumps(marker))


def change_document(directory: Path, **changes: object) -> None:
    path = directory / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    reseal(directory)


def test_document_survives_save_and_load(tmp_path, tiny_state, document):
    written = write_checkpoint(tmp_path, tiny_state, document)
    read = open_checkpoint(tmp_path).document
    assert read == written
    assert (read.classes, read.metrics, read.hidden_layers) == (
        document.classes,
        document.metrics,
        document.hidden_layers,
    )


def test_class_order_survives_save_and_load(directory):
    assert open_checkpoint(directory).document.classes == ("paper", "glass", "metal")


def test_weights_survive_to_the_bit(directory, tiny_state):
    read = open_checkpoint(str(directory)).weights()
    assert read.keys() == tiny_state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tiny_state.items())


def test_trainer_part_survives_to_the_bit(directory):
    found = open_checkpoint(directory, with_trainer=True).trainer()
    for name, tensor in TRAINER_TENSORS.items():
        read = found.pop(name)
        assert read.dtype == tensor.dtype
        assert read.stride() == tensor.stride()
        assert torch.equal(read, tensor)
    assert math.isnan(found.pop("worst"))
    assert found == TRAINER_VALUES


def test_a_trainer_part_that_holds_code_is_refused_without_running_it(tmp_path, tiny_state, document):
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return ran.touch, ()

    write_checkpoint(tmp_path / "c", tiny_state, document, trainer={"code": Code()})
    checkpoint = open_checkpoint(tmp_path / "c", with_trainer=True)
    with pytest.raises(CheckpointError, match=r"trainer/state\.pt: cannot be read"):
        checkpoint.trainer()
    assert not ran.exists()


def test_wrapped_half_and_strided_weights_are_written_plain(tmp_path, tiny_state, document):
    odd = {f"module.{name}": tensor for name, tensor in tiny_state.items()}
    odd["module.bn1.weight"] = tiny_state["bn1.weight"].half()
    odd["module.conv1.weight"] = tiny_state["conv1.weight"].to(memory_format=torch.channels_last)
    write_checkpoint(tmp_path, odd, document)
    read = open_checkpoint(tmp_path).weights()
    assert read.keys() == tiny_state.keys()
    assert read["bn1.weight"].dtype == torch.float32
    assert torch.equal(read["conv1.weight"], tiny_state["conv1.weight"])


def test_tensors_that_share_memory_are_both_written(tmp_path, tiny_state, document):
    shared = torch.arange(4.0)
    write_checkpoint(tmp_path, {**tiny_state, "fc.bias": shared, "fc.more": shared[:2]}, document)
    weights = open_checkpoint(tmp_path).weights()
    assert weights["fc.bias"].tolist() == [0, 1, 2, 3]
    assert weights["fc.more"].tolist() == [0, 1]


def test_an_id_follows_the_weights_and_what_else_an_answer_depends_on(tmp_path, tiny_state, document, make_document):
    def written(place: str, **changes: object) -> str:
        return str(write_checkpoint(tmp_path / place, tiny_state, make_document(**changes)).id)

    first = written("first")
    assert written("later", epoch=9, metrics={"val_loss": 1.0}, config={"name": "again"}) == first
    calibration = document.calibration
    others = {
        "temperature": written("temperature", calibration=replace(calibration, temperature=3.0)),
        "thresholds": written("thresholds", calibration=replace(calibration, thresholds=(0.7, 0.7, 0.7))),
        "classes": written("classes", classes=tuple(reversed(document.classes))),
        "preprocessing": written("preprocessing", preprocessing=replace(document.preprocessing, fit="stretch")),
    }
    assert open_checkpoint(tmp_path / "thresholds").document.id == others["thresholds"]
    tiny_state["fc.bias"] = tiny_state["fc.bias"] + 1
    assert len({first, *others.values(), written("weights")}) == len(others) + 2


def test_a_checkpoint_that_was_named_by_its_weights_alone_keeps_its_name(directory):
    name = hashlib.sha256((directory / "weights.safetensors").read_bytes()).hexdigest()[:12]
    change_document(directory, id=name)
    assert open_checkpoint(directory).document.id == name


def test_a_document_whose_thresholds_were_changed_is_refused_with_the_id_it_would_have(directory):
    calibration = json.loads((directory / "checkpoint.json").read_text())["calibration"]
    change_document(directory, calibration={**calibration, "thresholds": [0.7, 0.7, 0.7]})
    with pytest.raises(CheckpointError, match=r"belongs to the model .*are (\w{12});") as raised:
        open_checkpoint(directory)
    change_document(directory, id=str(raised.value).rsplit(" are ", 1)[1][:12])
    assert open_checkpoint(directory).document.calibration.thresholds == (0.7, 0.7, 0.7)


def test_checkpoint_without_trainer_part_is_used_but_not_resumed_from(tmp_path, tiny_state, document):
    write_checkpoint(tmp_path, tiny_state, document)
    assert open_checkpoint(tmp_path).weights()
    with pytest.raises(CheckpointError, match="not resumed from"):
        open_checkpoint(tmp_path, with_trainer=True)


def test_a_checkpoint_whose_trainer_part_another_version_wrote_is_used_but_not_resumed_from(directory):
    marker = json.loads((directory / MARKER).read_text())
    marker["files"]["trainer/state.json"] = marker["files"].pop("trainer/state.pt")
    (directory / "trainer/state.pt").rename(directory / "trainer/state.json")
    (directory / MARKER).write_text(json.dumps(marker))
    assert open_checkpoint(directory).weights()
    with pytest.raises(CheckpointError, match=r"no trainer/state\.pt.*another ray-trash wrote it.*--overwrite"):
        open_checkpoint(directory, with_trainer=True)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        open_checkpoint(tmp_path / "none")


def test_some_other_folder_or_file_is_no_checkpoint(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(CheckpointError, match="not a checkpoint"):
            open_checkpoint(place)


def test_a_run_points_to_its_checkpoint(tmp_path, tiny_state, document):
    write_checkpoint(tmp_path / "checkpoint", tiny_state, document)
    with pytest.raises(CheckpointError, match=f"a run, not a checkpoint.*{tmp_path}/checkpoint$"):
        open_checkpoint(tmp_path)


def test_checkpoint_without_marker_is_incomplete(directory):
    (directory / MARKER).unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        open_checkpoint(directory)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"~"), "SHA-256 differs"),
        (lambda path: path.write_bytes(path.read_bytes() + b"~"), "changed"),
        (Path.unlink, "missing"),
    ],
    ids=["truncated", "changed", "longer", "missing"],
)
def test_a_damaged_file_is_named(directory, name, damage, complaint):
    damage(directory / name)
    with pytest.raises(CheckpointError, match=f"{name}: .*{complaint}"):
        open_checkpoint(directory, with_trainer=True)


def test_a_truncated_trainer_part_is_refused_for_use_too(directory):
    path = directory / FILES[2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(directory)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"\xff", b'{"format_version": 2}', b'{"format_version": 2, "files": {"a": 1}}']
)
def test_a_broken_marker_is_refused(directory, content):
    (directory / MARKER).write_bytes(content)
    with pytest.raises(CheckpointError, match=MARKER):
        open_checkpoint(directory)


def test_document_of_other_weights_is_refused(tmp_path, directory, tiny_state, document):
    other = {name: tensor + 1 for name, tensor in tiny_state.items()}
    write_checkpoint(tmp_path / "other", other, document)
    (tmp_path / "other" / "checkpoint.json").replace(directory / "checkpoint.json")
    reseal(directory)
    with pytest.raises(CheckpointError, match="belongs to the model"):
        open_checkpoint(directory)


def test_another_format_version_is_refused_with_the_one_that_is_read(directory):
    for name in ("checkpoint.json", MARKER):
        path = directory / name
        path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 1'))
        if name != MARKER:
            reseal(directory)
        with pytest.raises(CheckpointError, match="format version 1; this ray-trash reads versions 2 and 3"):
            open_checkpoint(directory)


def test_an_interrupted_rewrite_leaves_no_readable_mixture(directory, tiny_state, document):
    other = {name: tensor + 1 for name, tensor in tiny_state.items()}
    unwritable = {"values": lambda: None}
    with pytest.raises((pickle.PicklingError, AttributeError)):
        write_checkpoint(directory, other, document, trainer=unwritable)
    with pytest.raises(CheckpointError, match="incomplete"):
        open_checkpoint(directory)
    write_checkpoint(directory, other, document)
    assert not (directory / "trainer").exists()
    assert torch.equal(open_checkpoint(directory).weights()["fc.bias"], other["fc.bias"])


def test_an_unreadable_document_is_not_written(directory, tiny_state, make_document):
    for changes in ({"metrics": {"val_loss": math.nan}}, {"classes": ("paper", "", "metal")}, {"epoch": -1}):
        with pytest.raises(ValueError, match=r"JSON|read back"):
            write_checkpoint(directory, tiny_state, make_document(**changes))
        assert open_checkpoint(directory).document.epoch == 4


def test_a_pickle_in_place_of_weights_runs_nothing(directory, tmp_path):
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self):
            return Path.touch, (canary,)

    payload = pickle.dumps(Attack())
    for data in (payload, struct.pack("<Q", len(payload)) + b"{" + payload):
        (directory / "weights.safetensors").write_bytes(data)
        document = json.loads((directory / "checkpoint.json").read_text())
        document["id"] = hashlib.sha256(data).hexdigest()[:12]
        (directory / "checkpoint.json").write_text(json.dumps(document))
        reseal(directory)
        with pytest.raises(CheckpointError, match=r"weights\.safetensors: cannot be read as safetensors"):
            open_checkpoint(directory).weights()
    assert not canary.exists()


def test_checkpoint_is_read_from_storage_that_is_not_local(directory):
    filesystem = fs._MockFileSystem()
    filesystem.create_dir("bucket/epoch-4/trainer", recursive=True)
    remote = Storage("mock://bucket", filesystem, "bucket")
    remote.upload(directory, "epoch-4", last=MARKER)
    checkpoint = open_checkpoint(remote.child("epoch-4"), with_trainer=True)
    assert checkpoint.uri == "mock://bucket/epoch-4"
    assert checkpoint.trainer()["epoch"] == 4
    remote.remove(f"epoch-4/{FILES[0]}")
    with pytest.raises(CheckpointError, match=f"{FILES[0]}: missing"):
        open_checkpoint(remote.child("epoch-4"))


def test_a_checkpoint_knows_the_name_of_its_folder(directory):
    assert open_checkpoint(f"{directory}/").name == directory.name


def test_the_card_is_beside_the_weights_and_no_part_of_what_is_checked(directory):
    card = (directory / CARD_FILE).read_text()
    assert open_checkpoint(directory).card == card
    (directory / CARD_FILE).write_text(f"{card}\nby hand\n")
    assert open_checkpoint(directory).card.endswith("by hand\n")


@pytest.mark.parametrize("stale", [None, b"# of other weights", b"model id: `0123456789ab`", b"\xff\x00"])
def test_a_checkpoint_without_a_card_of_its_own_has_one_made(directory, stale):
    (directory / CARD_FILE).unlink()
    if stale is not None:
        (directory / CARD_FILE).write_bytes(stale)
    opened = open_checkpoint(directory)
    assert opened.card == model_card(opened.document)
    assert f"model id: `{opened.document.id}`" in opened.card
