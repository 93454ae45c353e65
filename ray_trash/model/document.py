"""What a checkpoint says about itself: `checkpoint.json`, read strictly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from ray_trash.errors import CheckpointError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.calibration import Calibration
from ray_trash.terminal.text import counted

FORMAT_VERSION = 2
INT8_FORMAT_VERSION = 3
"""Of a checkpoint with an int8 network: code that reads version 2 alone would answer by the float one beside it, with
thresholds that are not its own."""
_ARCHITECTURE_KEYS = ("network", "hidden_layers", "dropout", "frozen_stages")
"""Fields that the JSON has under `architecture`."""
_ANSWERING_KEYS = ("classes", "preprocessing", "views", "calibration")
"""What an answer depends on besides the weights, which hold the architecture."""
ID_DIGITS = 12

ClassName = Annotated[str, StringConstraints(min_length=1)]
_FORWARD_BATCH_PHOTOS = 32
_PROBABILITY_SUM_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Golden:
    """One photo and its answer when the checkpoint was written: of the classes in order, in fp32 and calibrated."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    png_base64: Annotated[str, StringConstraints(min_length=1)]
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]


@dataclass(frozen=True)
class FloatNetwork:
    """What answers by the float network of a checkpoint depend on, where those of the int8 one depend on other things.

    Attributes:
        id: Of the checkpoint that was quantized.
        calibration: As it had it.
        golden: As it had it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, StringConstraints(min_length=1)]
    calibration: Calibration
    golden: Golden


@dataclass(frozen=True)
class CheckpointDocument:
    """Everything an answer depends on besides the weights.

    Attributes:
        classes: Names in the order of the network's outputs.
        network: As `model.architecture` names it.
        hidden_layers: Widths of the head's dense layers.
        dropout: Before the head's last layer, in training.
        frozen_stages: How many stages kept their weights when this checkpoint was written.
        views: 1, or 8 for the mean over a photo's eight symmetries.
        metrics: Name to number (or null), as measured when the checkpoint was written.
        data: Fingerprint, split rule and photos per split of what it was trained on, and whether links were followed.
        config: The resolved config.
        epoch: Epochs that were trained.
        created_at: ISO 8601, with the time zone.
        versions: Package to version.
        id: As `model_id` makes it, given by `write_checkpoint`; in earlier checkpoints, digits of the weights' SHA-256.
        float_network: Where an int8 network answers, to which `calibration` and `golden` belong then. Default: none
            does, they are those of the weights.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    classes: Annotated[tuple[ClassName, ...], Field(min_length=2)]
    hidden_layers: tuple[Annotated[int, Field(ge=1)], ...]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    frozen_stages: Annotated[int, Field(ge=0, le=5)]
    preprocessing: Preprocessing
    views: Literal[1, 8]
    calibration: Calibration
    metrics: dict[str, Any]
    data: dict[str, Any]
    config: dict[str, Any]
    epoch: Annotated[int, Field(ge=0)]
    created_at: str
    versions: dict[str, str]
    golden: Golden
    network: Literal["resnet10", "resnet18", "resnet34", "resnet50"] = "resnet50"
    id: str = ""
    float_network: FloatNetwork | None = None

    @property
    def is_int8(self) -> bool:
        """Whether an int8 network answers, unless the float one beside it is asked for."""
        return self.float_network is not None

    def by_float(self) -> CheckpointDocument:
        """Return what the answers of the float network depend on."""
        if self.float_network is None:
            return self
        return dataclasses.replace(self, calibration=self.float_network.calibration, golden=self.float_network.golden)

    @property
    def network_name(self) -> str:
        """The network's name as papers write it."""
        return self.network.replace("resnet", "ResNet")

    @property
    def forward_batch_photos(self) -> int:
        """Photos of one forward pass, as the stored config says: sums of floats depend on it in their last digits."""
        stored = self.config.get("evaluate", {})
        # The second is the key's earlier name.
        found: int = stored.get("forward_batch_photos") or stored.get("batch_size") or _FORWARD_BATCH_PHOTOS
        return found

    def views_note(self, views: int) -> str | None:
        """Say what answers over another number of views than the calibration was fitted to mean; None for its own."""
        if views == self.views or not self.calibration.n:
            return None
        return (
            f"answers are over {counted(views, 'view')} of a photo; the checkpoint's temperature and thresholds, "
            f"fitted to answers over {self.views}, are kept"
        )

    def __post_init__(self) -> None:
        """Refuse what no field shows by itself."""
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes: a name is listed twice")
        _require_classes(self.golden, self.calibration, len(self.classes))
        if self.float_network is not None:
            _require_classes(self.float_network.golden, self.float_network.calibration, len(self.classes))
        if datetime.fromisoformat(self.created_at).tzinfo is None:
            raise ValueError("created_at: the time zone is missing")


def _require_classes(golden: Golden, calibration: Calibration, n_classes: int) -> None:
    if len(golden.probabilities) != n_classes:
        raise ValueError(f"golden: {len(golden.probabilities)} probabilities for {n_classes} classes")
    if len(calibration.thresholds) != n_classes:
        raise ValueError(f"calibration: {len(calibration.thresholds)} thresholds for {n_classes} classes")
    n_shares = len(calibration.answer_shares)
    if n_shares not in (0, n_classes):
        raise ValueError(f"calibration: {n_shares} answer_shares for {n_classes} classes")
    if abs(math.fsum(golden.probabilities) - 1) > _PROBABILITY_SUM_TOLERANCE:
        raise ValueError("golden: the probabilities do not add up to 1")


def format_version(document: CheckpointDocument) -> int:
    """Return the version of the format that a document is written in."""
    return INT8_FORMAT_VERSION if document.is_int8 else FORMAT_VERSION


def document_to_json(document: CheckpointDocument) -> str:
    """Render a document as JSON that `document_from_json` reads; a number that is not finite is a `ValueError`."""
    values = dataclasses.asdict(document)
    if not document.is_int8:
        del values["float_network"]  # which the code of version 2 does not know
    architecture = {key: values.pop(key) for key in _ARCHITECTURE_KEYS}
    head = {"format_version": format_version(document), "id": values.pop("id"), "classes": values.pop("classes")}
    tree = {**head, "architecture": architecture, **values}
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def model_id(sha256_of_networks: Sequence[str], document: bytes) -> str:
    """Name a model by its networks and by what else an answer depends on, from the bytes of its `checkpoint.json`.

    The networks are the files of the weights and, where there is an int8 one, of that, in this order.

    As the file has it: a field that a later version adds changes no id.
    """
    tree = json.loads(document)
    answering = json.dumps({key: tree[key] for key in _ANSWERING_KEYS}, sort_keys=True)
    return hashlib.sha256(" ".join([*sha256_of_networks, answering]).encode()).hexdigest()[:ID_DIGITS]


def json_object(data: bytes, where: str) -> dict[str, Any]:
    """Read a JSON object, UTF-8 and with finite numbers, or raise `CheckpointError`; `where` names the file."""
    try:
        tree = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{where}: not UTF-8 text") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{where}: expected a JSON object")
    return tree


def document_from_json(data: bytes, where: str) -> CheckpointDocument:
    """Read what `document_to_json` rendered; `where` names the file.

    Raises:
        CheckpointError: It is of another format version, or a field is missing, unknown or wrong.
    """
    tree = json_object(data, where)
    version = require_format_version(tree, where)
    tree.pop("format_version")
    if (version == INT8_FORMAT_VERSION) != ("float_network" in tree):
        raise CheckpointError(
            f"{where}: format version {version}; float_network is in version {INT8_FORMAT_VERSION}, and in no other"
        )
    architecture = tree.pop("architecture", None)
    if not isinstance(architecture, Mapping) or "network" not in architecture:
        raise CheckpointError(f"{where}: architecture: expected an object that names the network")
    doubled = architecture.keys() & tree.keys()
    if doubled:
        raise CheckpointError(f"{where}: {', '.join(sorted(doubled))}: unknown outside architecture")
    if not tree.get("id"):
        raise CheckpointError(f"{where}: id is missing")
    try:
        # JSON knows no tuples; strict types would refuse its lists in Python's mode.
        return _DOCUMENT.validate_json(json.dumps({**tree, **architecture}))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'document'}: {problem['msg']}" for problem in error.errors()
        )
        raise CheckpointError(f"{where}: not a checkpoint document this ray-trash reads: {problems}") from error


def require_format_version(tree: Mapping[str, Any], where: str) -> int:
    """Return the version; what this code does not read is a `CheckpointError`."""
    version = tree.get("format_version")
    if type(version) is not int or version not in (FORMAT_VERSION, INT8_FORMAT_VERSION):
        raise CheckpointError(
            f"{where}: format version {version!r}; this ray-trash reads versions {FORMAT_VERSION} and "
            f"{INT8_FORMAT_VERSION}, use the ray-trash that wrote it"
        )
    return version


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


_DOCUMENT: TypeAdapter[CheckpointDocument] = TypeAdapter(CheckpointDocument)
