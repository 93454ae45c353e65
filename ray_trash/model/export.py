"""A checkpoint as one file for other runtimes: from a photo's square to calibrated probabilities.

An ONNX model, a program of torch.export or OpenVINO's IR, checked against the predictor before it is written. Its
metadata are `model_id`, and as JSON `classes`, `preprocessing` and `thresholds`. Decoding, fitting to the square and
abstaining are left to whoever runs it.

Letters in shapes: B photos, S side in pixels, C classes.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ray_trash.errors import CheckpointError, ConfigError
from ray_trash.model import golden
from ray_trash.model.answering import Answering
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.openvino_network import (
    answering_network,
    convert_network,
    from_ir,
    import_openvino,
    round_weights,
    to_ir,
)
from ray_trash.model.predictor import Predictor, load_network
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

ExportFormat = Literal["onnx", "torch", "openvino"]
ExportPrecision = Literal["fp32", "bf16", "int8"]
SUFFIX: dict[ExportFormat, str] = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml"}
NUMBERS_SUFFIX = ".bin"
"""Of the second file of OpenVINO's IR."""
PARITY_TOLERANCE = 1e-4
"""How far a probability of the file may be from the predictor's, where both compute in fp32.

They differ by the order of their sums, since an exporter folds batch norms into convolutions.
"""
TOLERANCE: dict[ExportPrecision, float] = {
    "fp32": PARITY_TOLERANCE,
    "bf16": golden.TOLERANCE[torch.bfloat16],
    "int8": golden.TOLERANCE[torch.int8],
}
"""The same by what the file's weights are; those of bf16 are compared with the predictor in fp32."""
INPUT_NAME, OUTPUT_NAME = "photos", "probabilities"

_ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_PARITY_BATCHES = (1, 3)
"""Photos in the batches that are compared: the export is traced with another number."""
_TRACED_BATCH = 2
"""Photos in the batch that is traced; torch.export takes 0 and 1 for numbers that never change."""

_Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def export_checkpoint(
    checkpoint_uri: str,
    file_format: ExportFormat,
    *,
    precision: ExportPrecision | None = None,
    out: str | None = None,
    overwrite: bool = False,
    terminal: Terminal | None = None,
) -> dict[str, Any]:
    """Write a checkpoint as one file, or OpenVINO's two: from (B, S, S, 3) uint8 to (B, C) float32, for any B above 0.

    With 8 views, each photo is computed as a batch of eight. `out` is the file, a path or URI; by default the
    checkpoint's id in the working directory. OpenVINO's second file lies beside it and ends in `.bin`. `terminal` is
    told how far this has come.

    `precision` is what the weights are written in, by default what the checkpoint answers by: int8 or fp32. The bf16 of
    OpenVINO are weights of half the size; in what their reader computes is up to it.

    Returns:
        `file`, `format`, `precision`, `model_id`, `size_bytes` and `max_difference`, the largest from the predictor's
        probabilities.

    Raises:
        CheckpointError: The checkpoint cannot be used, or the export answers otherwise than it.
        ConfigError: Packages are missing, the format has no such precision, or the file is there already.
        StorageError: The file cannot be written.
    """
    absent = [name for name in _ONNX_PACKAGES if importlib.util.find_spec(name) is None]
    if file_format == "onnx" and absent:
        raise ConfigError(f"--format onnx: {', '.join(absent)} is not installed; pip install 'ray-trash[onnx]'")
    if file_format == "openvino" and importlib.util.find_spec("openvino") is None:
        raise ConfigError("--format openvino: OpenVINO is not installed; pip install openvino, or take another format")
    checkpoint = open_checkpoint(checkpoint_uri)
    precision = _checked_precision(precision, file_format, checkpoint)
    document = checkpoint.document if precision == "int8" else checkpoint.document.by_float()
    folder, name = Storage.of_file(out or f"{document.id}{SUFFIX[file_format]}")
    file_uri = folder.child(name).uri
    if file_format == "openvino" and not name.endswith(SUFFIX[file_format]):
        raise ConfigError(f"--out {name}: OpenVINO knows its files by their ends; name it *.xml, for *.bin beside it")
    if folder.exists(name) and not overwrite:
        raise ConfigError(f"{file_uri}: is there already; give another --out, or --overwrite")
    with Bar(terminal or Terminal.silent(), total=3, noun="steps", doing="loading,", alike=False) as bar:
        asked: dict[str, Any] = {"engine": "auto"} if precision == "int8" else {"precision": "fp32"}
        predictor = Predictor.load(checkpoint, device="cpu", **asked)
        bar.show(1, doing=f"writing {file_format},")
        files: tuple[bytes, ...]
        if file_format == "openvino":
            ir = _render_openvino(checkpoint, document, precision)
            files, answer = ir, _load_openvino(ir)
        else:
            answering = Answering(
                load_network(checkpoint),
                document.preprocessing,
                views=document.views,
                temperature=document.calibration.temperature,
            )
            answering.eval().requires_grad_(False)
            render, load = {"onnx": (_render_onnx, _load_onnx), "torch": (_render_torch, _load_torch)}[file_format]
            data = render(answering, document)
            files, answer = (data,), load(data)
        bar.show(2, doing="comparing its answers,")
        difference = _largest_difference(answer, predictor)
    # A comparison with NaN is false, so this refuses what is not finite too.
    if not difference <= TOLERANCE[precision]:
        raise CheckpointError(
            f"{checkpoint.uri}: exported as {file_format}, a probability differs by {difference:.3g} from the "
            f"checkpoint's (allowed {TOLERANCE[precision]:.3g}), so nothing was written; use other versions of torch"
            f"{' and ' + ', '.join(_ONNX_PACKAGES) if file_format == 'onnx' else ''}, or another format"
        )
    # The second file first: whoever finds the first has both.
    if len(files) > 1:
        folder.write_bytes(name.removesuffix(SUFFIX[file_format]) + NUMBERS_SUFFIX, files[1])
    folder.write_bytes(name, files[0])
    return {
        "file": file_uri,
        "format": file_format,
        "precision": precision,
        "model_id": document.id,
        "size_bytes": sum(map(len, files)),
        "max_difference": difference,
    }


def _checked_precision(
    precision: ExportPrecision | None, file_format: ExportFormat, checkpoint: Checkpoint
) -> ExportPrecision:
    is_int8 = checkpoint.document.is_int8
    precision = precision or ("int8" if is_int8 else "fp32")
    if precision == "int8" and not is_int8:
        raise ConfigError(f"--precision int8: {checkpoint.uri} has no int8 network; `ray-trash quantize` makes one")
    if precision != "fp32" and file_format != "openvino":
        raise ConfigError(
            f"--format {file_format}: is written in fp32 alone, and this would be {precision}; add --precision fp32 "
            "for the float network, or take --format openvino"
        )
    return precision


def _metadata(document: CheckpointDocument) -> dict[str, str]:
    return {
        "classes": json.dumps(document.classes, ensure_ascii=False),
        "model_id": document.id,
        "preprocessing": json.dumps(document.preprocessing.to_json()),
        "thresholds": json.dumps(document.calibration.thresholds),
    }


def _example(document: CheckpointDocument) -> Tensor:
    side_px = document.preprocessing.size_px
    return torch.zeros((_TRACED_BATCH, side_px, side_px, 3), dtype=torch.uint8)


def _render_onnx(answering: Answering, document: CheckpointDocument) -> bytes:
    import onnx

    # A name, where torch.export wants a kind: it is what the file's readers see.
    program = torch.onnx.export(
        answering,
        (_example(document),),
        dynamo=True,
        dynamic_shapes={INPUT_NAME: {0: "batch"}},
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        verbose=False,
    )
    assert program is not None, "dynamo=True returns the program"
    model = program.model_proto
    # What torch remembers of a node includes this machine's paths.
    for entry in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        entry.ClearField("metadata_props")
    onnx.helper.set_model_props(model, _metadata(document))
    return bytes(model.SerializeToString())


def _load_onnx(data: bytes) -> _Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return lambda photos: np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: photos})[0])


def _render_torch(answering: Answering, document: CheckpointDocument) -> bytes:
    program = torch.export.export(
        answering, (_example(document),), dynamic_shapes={INPUT_NAME: {0: torch.export.Dim.DYNAMIC}}
    )
    for node in program.graph.nodes:
        # It has this machine's paths.
        node.meta.pop("stack_trace", None)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files=_metadata(document))
    return file.getvalue()


def _render_openvino(
    checkpoint: Checkpoint, document: CheckpointDocument, precision: ExportPrecision
) -> tuple[bytes, bytes]:
    if precision == "int8":
        assert checkpoint.quantized is not None
        converted = from_ir(checkpoint.quantized.ir, checkpoint.uri)
    else:
        converted = convert_network(load_network(checkpoint), document.preprocessing)
    whole = answering_network(
        converted,
        views=document.views,
        temperature=document.calibration.temperature,
        names=(INPUT_NAME, OUTPUT_NAME),
        metadata=_metadata(document),
    )
    if precision == "bf16":
        round_weights(whole)
    return to_ir(whole)


def _load_openvino(files: tuple[bytes, bytes]) -> _Answer:
    network = import_openvino().compile_model(from_ir(files, "the export"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda photos: np.asarray(network(photos)[0])


def _load_torch(data: bytes) -> _Answer:
    module = torch.export.load(io.BytesIO(data)).module()

    def answer(photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(photos)).numpy())

    return answer


def _largest_difference(answer: _Answer, predictor: Predictor) -> float:
    document = predictor.document
    square = predictor.prepare(base64.b64decode(document.golden.png_base64))
    photos = np.stack([square, *_made_up_squares(sum(_PARITY_BATCHES) - 1, len(square))])
    reference = predictor.predict(photos)
    ends = np.cumsum(_PARITY_BATCHES)
    answers = [answer(photos[end - n : end]) for n, end in zip(_PARITY_BATCHES, ends, strict=True)]
    return float(np.abs(np.concatenate(answers) - reference).max())


def _made_up_squares(n: int, side_px: int) -> list[NDArray[np.uint8]]:
    """Make squares (S, S, 3) of coloured blocks, from coarse to fine."""
    random = np.random.default_rng(0)
    blocks = [random.integers(0, 256, (2**number, 2**number, 3), np.uint8) for number in range(1, n + 1)]
    return [np.array(Image.fromarray(block).resize((side_px, side_px), Image.Resampling.NEAREST)) for block in blocks]
