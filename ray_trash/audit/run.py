"""The audit of a data root: one look at every file, what belongs together, the split, and what is doubtful."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from numpy.typing import NDArray

from ray_trash.audit.document import SEARCHED, Findings, build_audit
from ray_trash.audit.learnt import learn, seal
from ray_trash.audit.sheet import audit_sheet
from ray_trash.audit.suspects import find_outliers, suspects_of_conflicts
from ray_trash.dataset.catalog import LookedAt, build_catalog
from ray_trash.dataset.groups.near import MIN_SHARED_POINTS
from ray_trash.dataset.groups.relations import ONE_SHOT, Relation, anchors_of, connected, find_relations, too_plain
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.official import Side, has_official_lists
from ray_trash.dataset.split import SplitRule, assign_splits, split_rule
from ray_trash.image.preprocess import Preprocessing
from ray_trash.storage import Storage

AUDIT_FILE = "audit.json"
SHEET_FILE = "audit.png"
PREPROCESSING = Preprocessing(size_px=224, stored_short_side_px=256, fit="crop")
"""What an audit looks at where no config says: as ImageNet's own evaluation. Source: torchvision
ResNet50_Weights.IMAGENET1K_V1.transforms()."""

Features = Callable[[pa.Table], NDArray[np.float32]]
"""Takes catalog rows of accepted photos, gives what a pretrained network makes of each."""


@dataclass(frozen=True)
class Audited:
    """What an audit gave.

    Attributes:
        catalog: One row a file.
        decoded: The accepted photos, where they were asked for.
        sides: The side of each row of the catalog.
        rule: The split's rule, with the groups it goes by.
        document: The content of `audit.json`; `learnt_from`, beside what `build_audit` puts there, tells the next
            audit whether it may take over `probes` and `suspects`.
        relations: Which photos belong together, by rows of the catalog.
    """

    catalog: pa.Table
    decoded: ray.data.Dataset | None
    sides: Sequence[Side | None]
    rule: SplitRule
    document: dict[str, Any]
    relations: Sequence[Relation]


def resolve_split(split: str, listing: Listing) -> str:
    """Return what `auto` means for these photos: their own lists where there are some, else `grouped`."""
    if split != "auto":
        return split
    return "official" if has_official_lists(listing) else "grouped"


def audit_photos(
    listing: Listing,
    preprocessing: Preprocessing,
    rule: SplitRule,
    *,
    balance: str,
    keep_pixels: bool = False,
    features: Features | None = None,
    known: Mapping[str, Any] | None = None,
) -> Audited:
    """Look at every file once and at how the photos relate; needs a connection to Ray.

    Args:
        listing: Of the data root.
        preprocessing: Gives the size that photos are decoded down to.
        rule: How photos are split; the groups it may need are found here.
        balance: What is done about classes of different sizes, in words.
        keep_pixels: Return the decoded photos as well.
        features: Of a pretrained network; left out, suspects are looked for in thumbnails.
        known: The document of an earlier audit; what it learnt from the same photos is not learnt again.

    Raises:
        DataError: The lists of an official split are missing, damaged, or contradict the folders.
    """
    looked_at = build_catalog(listing, preprocessing, keep_pixels=keep_pixels, keep_sketches=True)
    catalog, sketches = looked_at.catalog, looked_at.sketches
    assert sketches is not None
    relations = find_relations(catalog, sketches, listing.root, min_short_side_px=preprocessing.stored_short_side_px)
    rule = _with_groups(rule, looked_at, relations, listing.root)
    sides, split_warnings = assign_splits(catalog, rule, listing.root)
    photos = catalog.filter(pc.equal(catalog["verdict"], "accepted"))
    groups = _group_numbers(photos, relations)
    photo_sides = [
        side for side, verdict in zip(sides, catalog["verdict"].to_pylist(), strict=True) if verdict == "accepted"
    ]
    learnt = learn(
        photos,
        sketches,
        photo_sides,
        groups,
        relations,
        features=None if features is None else features(photos),
        known=known,
    )
    findings = Findings(
        relations=relations,
        uncompared=too_plain(sketches, MIN_SHARED_POINTS),
        probes=learnt.probes,
        outliers=find_outliers(photos, sketches),
        balance=balance,
        searched=f"{SEARCHED}; not searched: other poses of things without such a part",
    )
    document = build_audit(catalog, sides, [*listing.warnings, *split_warnings], findings)
    named = suspects_of_conflicts(document["conflicts"])
    tied = {suspect["path"] for suspect in named}
    document["suspects"] = [*named, *(suspect for suspect in learnt.suspects if suspect["path"] not in tied)]
    document["learnt_from"] = seal(learnt.source, document["probes"], document["suspects"])
    for conflict in document["conflicts"]:
        del conflict["path_labels"]
    return Audited(catalog, looked_at.decoded, sides, rule, document, relations)


def write_audit(audited: Audited, root: str, place: Storage) -> None:
    """Write `audit.png`, then `audit.json`."""
    place.write_bytes(SHEET_FILE, audit_sheet(audited.document, root))
    place.write_bytes(AUDIT_FILE, (json.dumps(audited.document, indent=2) + "\n").encode())


def make_rule(split: str, val_fraction: float, test_fraction: float, listing: Listing) -> SplitRule:
    """Make the rule for a listing; `split` as in the config, `auto` included.

    Raises:
        ConfigError: `split` is none of the words nor a file that can be read.
        DataError: The file is not a table of paths and sides.
    """
    return split_rule(resolve_split(split, listing), val_fraction, test_fraction)


def _with_groups(rule: SplitRule, looked_at: LookedAt, relations: Sequence[Relation], root: str) -> SplitRule:
    if not rule.needs_groups:
        return rule
    sha256 = looked_at.catalog["sha256"].to_pylist()
    if rule.kind == "grouped":
        return replace(rule, anchors=anchors_of(connected(relations), sha256))
    groups = connected(relation for relation in relations if relation.kind in ONE_SHOT)
    labels = looked_at.catalog["label"].to_pylist()
    sides, _ = assign_splits(looked_at.catalog, rule, root)
    left_out = {
        sha256[row]
        for group in groups
        for row in group
        if len({labels[other] for other in group}) > 1 or any(sides[other] in ("val", "test") for other in group)
    }
    return replace(rule, left_out=frozenset(left_out))


def _group_numbers(photos: pa.Table, relations: Sequence[Relation]) -> NDArray[np.int64]:
    position = {row: number for number, row in enumerate(photos["row"].to_pylist())}
    numbers = np.arange(len(photos))
    for group in connected(relations):
        members = [position[row] for row in group]
        numbers[members] = members[0]
    return numbers
