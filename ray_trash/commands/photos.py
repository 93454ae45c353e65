"""What the commands on folders of photos do."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_trash.commands import STDOUT
from ray_trash.errors import ConfigError

if TYPE_CHECKING:
    from ray_trash.terminal.say import Terminal

AUDIT_FRACTION = 0.15
"""Share of photos that `audit` puts into validation and into test, as the defaults of `data` do."""


def fetch(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Download a known data set."""
    from ray_trash.fetch.known import fetch as fetch_known
    from ray_trash.terminal.bar import byte_bar

    with byte_bar(terminal, options.name) as on_bytes:
        fetched = fetch_known(options.name, Path(options.to), archive=options.archive, on_bytes=on_bytes)
    what = "was complete, nothing to do" if fetched.was_there else "complete"
    for line in (f"{fetched.root}: {fetched.n_photos} photos, {what}", *fetched.notes):
        terminal.say(line)
    return {**vars(fetched), "root": str(fetched.root), "notes": list(fetched.notes)}


def sample(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Render a sample set."""
    from ray_trash.fetch.sample import render_sample

    counts = render_sample(Path(options.to), per_class=options.per_class, seed=options.seed, terminal=terminal)
    terminal.say(f"{sum(counts.values())} photos in {options.to}")
    return {"root": options.to, "per_class": counts}


def pack(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Write a folder of photos as a few large files."""
    from ray_trash.cluster.here import is_little, session_if
    from ray_trash.dataset.listing import list_photos
    from ray_trash.pack.run import pack_photos, say_packed
    from ray_trash.pack.target import Target

    target = Target(options.to)
    target.require_free(options.root, overwrite=options.overwrite)
    listing = list_photos(options.root, labels_uri=options.labels, terminal=terminal)
    with session_if(not is_little(len(listing.files)), terminal=terminal):
        document = pack_photos(listing, target, split=options.split, terminal=terminal)
    say_packed(document, terminal)
    return document


def audit(options: argparse.Namespace, terminal: Terminal) -> dict[str, Any]:
    """Check every file of a folder."""
    from ray_trash.audit.folds import fold_files
    from ray_trash.audit.run import PREPROCESSING, audit_json, audit_photos, write_audit
    from ray_trash.cluster.here import is_little, session_if
    from ray_trash.dataset.catalog import require_usable_photos
    from ray_trash.dataset.listing import list_photos
    from ray_trash.dataset.photo_set import read_photo_set
    from ray_trash.dataset.split import make_rule
    from ray_trash.storage import Storage
    from ray_trash.terminal.audit_table import print_audit

    if options.folds and not options.out:
        raise ConfigError(f"--folds {options.folds}: say with --out DIR where the files go")
    listing = list_photos(options.root, labels_uri=options.labels, terminal=terminal)
    rule = make_rule(options.split, AUDIT_FRACTION, AUDIT_FRACTION, listing)
    features, work = None, float(len(listing.files))
    if options.features:
        # Without them no network is needed, and torch takes seconds to load.
        from ray_trash.audit.features import pretrained_features

        features, work = pretrained_features(options.features, listing.root, terminal=terminal), math.inf
    with session_if(not is_little(work), terminal=terminal):
        photo_set = read_photo_set(listing, PREPROCESSING, rule, terminal=terminal)
        balance = "train.class_balance says what to do"
        document = audit_photos(photo_set, balance=balance, features=features, terminal=terminal)
    if options.out:
        out = Storage.at(options.out)
        write_audit(document, listing.root, out)
        if options.folds:
            for name, content in fold_files(photo_set.catalog, photo_set.relations, options.folds).items():
                out.write_bytes(name, content)
    if options.json not in (None, STDOUT):
        target = Path(options.json).absolute()
        Storage.at(str(target.parent)).write_bytes(target.name, audit_json(document))
    print_audit(document, terminal)
    require_usable_photos(photo_set.catalog)
    return dict(document)
