"""`model_card.md`: a checkpoint described for people, in the layout that the Hugging Face hub reads.

It lies in the checkpoint's folder and is no part of what answers, so the marker does not name it: it is written with
the checkpoint, and once more when the checkpoint has been evaluated.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ray_trash.config.yaml import render_yaml
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.limits import limits_of
from ray_trash.terminal.quantization import quantization_lines
from ray_trash.terminal.text import counted, percent, percents, printable

CARD_FILE = "model_card.md"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!&])")


def model_card(
    document: CheckpointDocument,
    *,
    quantized: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    audit: Mapping[str, Any] | None = None,
) -> str:
    """Write a card from what a checkpoint says, and where they are known from the contents of other files.

    Args:
        document: Of the checkpoint.
        quantized: `quantized.json`, where an int8 network answers.
        evaluation: `evaluation.json`. Default: the card has the figures of validation, and says so.
        audit: `audit.json` of the photos that were trained on.
    """
    parts = [
        ("Intended use", _use(document)),
        ("Data", _data(document, audit)),
        ("Figures", _figures(document, evaluation)),
        ("Limits", _limits(evaluation, audit)),
        ("Calibration", _calibration(document, evaluation)),
        ("How to load it", _loading(document)),
    ]
    if quantized is not None:
        parts.insert(3, ("Int8", _int8(quantized)))
    metadata = render_yaml(_metadata(document, evaluation))
    network = f"{document.network_name} in int8" if document.is_int8 else document.network_name
    head = f"---\n{metadata}---\n\n# {_text(_name(document))}\n\n{network}, model id: `{document.id}`\n"
    return head + "".join(f"\n## {title}\n\n" + "\n".join(lines) + "\n" for title, lines in parts)


def card_is_of(card: bytes, document: CheckpointDocument) -> bool:
    """Say whether a card was written for these weights, and not left behind by others."""
    return f"model id: `{document.id}`".encode() in card


def _name(document: CheckpointDocument) -> str:
    return str(document.config.get("name") or f"ray-trash {document.id}")


def _metadata(document: CheckpointDocument, evaluation: Mapping[str, Any] | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "ray-trash",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", document.network, "ray-trash"],
        "metrics": ["accuracy", "f1"],
    }
    if evaluation is None:
        return metadata
    dataset = {
        "name": _dataset_name(document),
        "type": "imagefolder",
        "split": evaluation["split"],
        "revision": evaluation["dataset_fingerprint"],
    }
    metrics = [
        {"type": "accuracy", "name": "Accuracy", "value": evaluation["accuracy"]},
        {"type": "f1", "name": "Macro F1", "value": evaluation["macro_f1"], "args": {"average": "macro"}},
    ]
    result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}
    return {**metadata, "model-index": [{"name": _name(document), "results": [result]}]}


def _dataset_name(document: CheckpointDocument) -> str:
    root = str(document.config.get("data", {}).get("root", ""))
    return posixpath.basename(root.rstrip("/")) or "photos"


def _use(document: CheckpointDocument) -> Iterator[str]:
    names = ", ".join(map(_text, document.classes))
    yield f"Says which of {len(document.classes)} classes a photo shows: {names}."
    if any(document.calibration.thresholds):
        yield 'An answer that is less sure than its class\'s threshold is "not sure"; it should go to a person.'
    yield "It is not meant for photos of anything else, nor where a wrong answer harms somebody."


def _data(document: CheckpointDocument, audit: Mapping[str, Any] | None) -> Iterator[str]:
    data = document.config.get("data", {})
    n = document.data.get("n", {})
    sides = ", ".join(f"{count:,} {side}" for side, count in n.items())
    yield f"- photos: {_text(_dataset_name(document))}" + (f" ({sides})" if sides else "")
    yield f"- licence of the photos: {_text(data['licence']) if data.get('licence') else 'not said'}"
    if document.data.get("fingerprint"):
        yield f"- fingerprint: `{document.data['fingerprint']}`"
    split = document.data.get("split", {})
    if isinstance(split, Mapping) and "kind" in split:
        yield f"- split: {_text(str(split['kind']))}"
    if document.config.get("model", {}).get("weights"):
        weights = posixpath.basename(str(document.config["model"]["weights"]))
        yield f"- begun with the weights: {_text(weights)}"
    if audit is not None:
        counts = audit["counts"]
        yield (
            f"- files: {counts['seen']:,} seen, {counts['accepted']:,} accepted, {counts['rejected']:,} rejected, "
            f"{counts['ignored']:,} ignored"
        )


def _figures(document: CheckpointDocument, evaluation: Mapping[str, Any] | None) -> Iterator[str]:
    if evaluation is None:
        yield f"On validation, which chose the epoch ({document.epoch}); it has not been evaluated on other photos yet:"
        yield ""
        for name, value in document.metrics.items():
            yield f"- {_text(name)}: {value:.4f}" if isinstance(value, float) else f"- {_text(name)}: {value}"
        return
    yield (
        f"On the side `{evaluation['split']}`: {evaluation['correct']}/{evaluation['n']} = "
        f"{percent(evaluation['accuracy'])} right (95 % interval {percents(evaluation['accuracy_ci95'])}), "
        f"macro-F1 {evaluation['macro_f1']:.3f}, loss {evaluation['loss']:.3f}."
    )
    yield ""
    yield "| class | photos | recall | 95 % interval | precision |"
    yield "|---|---|---|---|---|"
    for name, of_class in evaluation["per_class"].items():
        shares = [percent(of_class[key]) if of_class[key] is not None else "-" for key in ("recall", "precision")]
        ends = percents(of_class["recall_ci95"]) if of_class["recall_ci95"] else "-"
        yield f"| {_text(name)} | {of_class['n']} | {shares[0]} | {ends} | {shares[1]} |"


def _int8(quantized: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"Answers come from an int8 network, by OpenVINO on CPUs. It was made of the float network of "
        f"`{quantized['quantized_from']}`, by {counted(quantized['range_photos'], 'training photo')}; that network is "
        "here too, and answers where `serve.precision` is fp32 or bf16. Compared on the photos of validation:"
    )
    yield ""
    yield from (f"- {_text(line)}" for line in quantization_lines(quantized))


def _limits(evaluation: Mapping[str, Any] | None, audit: Mapping[str, Any] | None) -> Iterator[str]:
    found = limits_of(evaluation, audit)
    yield from (f"- {_text(limit)}" for limit in found)
    if not found:
        yield "None is known; none was looked for beyond what stands here." if evaluation is None else "None was found."


def _calibration(document: CheckpointDocument, evaluation: Mapping[str, Any] | None) -> Iterator[str]:
    calibration = document.calibration
    yield f"- temperature {calibration.temperature:.3g}, fitted on {counted(calibration.n, 'photo')}"
    if evaluation is not None:
        yield f"- calibration error (ECE) {evaluation['ece']:.3f} on the side `{evaluation['split']}`"
    if calibration.target_error is not None:
        yield f"- thresholds keep wrong answers to {percent(calibration.target_error)} on validation:"
        for name, threshold in zip(document.classes, calibration.thresholds, strict=True):
            yield f"  - {_text(name)}: {threshold:.3f}"
    selective = (evaluation or {}).get("selective")
    if selective is not None and selective["error"] is not None:
        yield (
            f"- with them it answers {percent(selective['coverage'])} of the photos, {percent(selective['error'])} of "
            f"these wrongly (95 % interval {percents(selective['error_ci95'])})"
        )


def _loading(document: CheckpointDocument) -> Iterator[str]:
    yield "```bash"
    yield "ray-trash score CHECKPOINT photos/ --out scored.csv    # label a folder of photos"
    yield "ray-trash serve CHECKPOINT                             # answer over HTTP"
    yield "```"
    yield ""
    yield "```python"
    yield "from ray_trash.model.predictor import Predictor"
    yield ""
    engine = ', engine="auto"' if document.is_int8 else ""
    yield f'predictor = Predictor.load("CHECKPOINT"{engine})'
    yield 'square = predictor.prepare(open("photo.jpg", "rb").read())'
    yield "probabilities = predictor.predict(square[None])  # in the order of predictor.document.classes"
    yield "```"
    yield ""
    yield "The Hugging Face hub takes this file under the name `README.md`."


def _text(words: str) -> str:
    """Write a name so that Markdown shows it as it is."""
    return _SPECIAL.sub(r"\\\1", printable(words))
