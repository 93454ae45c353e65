"""What a checkpoint says about itself: `checkpoint.json`, read strictly."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from ray_trash.errors import CheckpointError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.calibration import Calibration
from ray_trash.terminal.text import counted

FORMAT_VERSION = 2
"""What this code writes, and the only version it reads."""
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
    network: Literal["resnet18", "resnet34", "resnet50"] = "resnet50"
    id: str = ""

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
        if len(self.golden.probabilities) != len(self.classes):
            raise ValueError(f"golden: {len(self.golden.probabilities)} probabilities for {len(self.classes)} classes")
        if len(self.calibration.thresholds) != len(self.classes):
            raise ValueError(
                f"calibration: {len(self.calibration.thresholds)} thresholds for {len(self.classes)} classes"
            )
        n_shares = len(self.calibration.answer_shares)
        if n_shares not in (0, len(self.classes)):
            raise ValueError(f"calibration: {n_shares} answer_shares for {len(self.classes)} classes")
        if abs(math.fsum(self.golden.probabilities) - 1) > _PROBABILITY_SUM_TOLERANCE:
            raise ValueError("golden: the probabilities do not add up to 1")
        if datetime.fromisoformat(self.created_at).tzinfo is None:
            raise ValueError("created_at: the time zone is missing")


def document_to_json(document: CheckpointDocument) -> str:
    """Render a document as JSON that `document_from_json` reads; a number that is not finite is a `ValueError`."""
    values = dataclasses.asdict(document)
    architecture = {key: values.pop(key) for key in _ARCHITECTURE_KEYS}
    head = {"format_version": FORMAT_VERSION, "id": values.pop("id"), "classes": values.pop("classes")}
    tree = {**head, "architecture": architecture, **values}
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def model_id(weights_sha256: str, document: bytes) -> str:
    """Name a model by its weights and by what else an answer depends on, from the bytes of its `checkpoint.json`.

    As the file has it: a field that a later version adds changes no id.
    """
    tree = json.loads(document)
    answering = json.dumps({key: tree[key] for key in _ANSWERING_KEYS}, sort_keys=True)
    return hashlib.sha256(f"{weights_sha256} {answering}".encode()).hexdigest()[:ID_DIGITS]


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
    require_format_version(tree, where)
    tree.pop("format_version")
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


def require_format_version(tree: Mapping[str, Any], where: str) -> None:
    """Refuse, as a `CheckpointError`, what another version of this code wrote."""
    version = tree.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{where}: format version {version!r}; this ray-trash reads version {FORMAT_VERSION}, "
            "use the ray-trash that wrote it"
        )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


_DOCUMENT: TypeAdapter[CheckpointDocument] = TypeAdapter(CheckpointDocument)
