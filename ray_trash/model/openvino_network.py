"""Networks as OpenVINO has them: converted from torch, made int8, made whole for others, as the two files of its IR.

What is converted takes one photo's square (1, S, S, 3) uint8 and gives its probabilities (1, C) float32, of one view
and before any temperature. Letters in shapes: B photos, S side in pixels, C classes.
"""

from __future__ import annotations

import functools
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ray_trash.errors import CheckpointError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.answering import Answering


@functools.cache
def import_openvino() -> Any:
    """Import OpenVINO, with one `Core` for all that is compiled in this process, by NNCF as well.

    Each `Core` brings a stack for signals and takes it away when it goes, whichever one is in use by then: with two of
    them, the next signal that Python handles can end the process with SIGSEGV.
    It reports its use over the network unless its telemetry cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    openvino.Core = openvino._ov_api.Core = functools.cache(openvino.Core)
    return openvino


def convert_network(network: nn.Module, preprocessing: Preprocessing) -> Any:
    """Convert a network that is in evaluation mode on the CPU; takes seconds."""
    openvino = import_openvino()
    side_px = preprocessing.size_px
    example = torch.zeros((1, side_px, side_px, 3), dtype=torch.uint8)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # about the tracing of shapes, which are fixed here
        # Not compared with itself by a second tracing: what it answers is compared with the stored answers.
        traced = torch.jit.trace(Answering(network, preprocessing).eval(), example, check_trace=False)
        return openvino.convert_model(traced, example_input=example, input=[1, side_px, side_px, 3])


def quantize_network(
    converted: Any, squares: Sequence[NDArray[np.uint8]], on_photo: Callable[[], None] = lambda: None
) -> Any:
    """Make an int8 network of a converted one by NNCF, which measures the range of each layer on photos (S, S, 3).

    `on_photo` is called for each photo on which it is measured; as much is to be done once all are.

    Only the first layer's weights have 7 of their 8 bits, as NNCF has it by default. With 7 in all layers no sum of two
    products would leave 16 bits, at which processors without VNNI cut it off; but that costs more than it saves:
    measured on such a processor, 251 of 328 photos right by default and 244 with 7 bits, 254 in float.
    """
    import_openvino()

    def measured(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
        on_photo()
        return square[np.newaxis]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # NNCF loads the builder of torch's extensions, which tells everybody where it finds no GPU.
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        import nncf

        return nncf.quantize(
            converted,
            nncf.Dataset(squares, measured),
            subset_size=len(squares),
            target_device=nncf.TargetDevice.CPU,
        )


def answering_network(
    converted: Any, *, views: int, temperature: float, names: tuple[str, str], metadata: Mapping[str, str]
) -> Any:
    """Make of a converted network one that gives calibrated probabilities (B, C) for photos (B, S, S, 3), any B.

    Args:
        converted: Stays as it is.
        views: Symmetries of a photo that its answer is the mean over, computed as one batch.
        temperature: Logarithms of the mean are divided by it.
        names: Of the input and of the output.
        metadata: What the file's `rt_info` has under `ray_trash`.
    """
    openvino = import_openvino()
    ops, network = openvino.opset13, converted.clone()
    side_px = int(network.input(0).shape[1])
    network.reshape({0: openvino.PartialShape([-1, side_px, side_px, 3])})
    (photos,), (result,) = network.get_parameters(), network.get_results()
    probabilities = result.input_value(0)
    if views > 1:
        readers = photos.output(0).get_target_inputs()
        backwards, across, beside = np.arange(side_px)[::-1].copy(), np.array(1), np.array(2)
        seen = []
        for view in (photos, ops.gather(photos, backwards, beside)):
            for _ in range(views // 2):
                seen.append(view)
                view = ops.gather(ops.transpose(view, np.array([0, 2, 1, 3])), backwards, across)
        for reader in readers:
            reader.replace_source_output(ops.concat(seen, 0).output(0))
        n_classes = int(probabilities.partial_shape[1].get_length())
        by_view = ops.reshape(probabilities, np.array([views, -1, n_classes]), special_zero=False)
        probabilities = ops.reduce_mean(by_view, np.array([0]), keep_dims=False).output(0)
    if temperature != 1:
        logarithms = ops.divide(ops.log(probabilities), np.float32(temperature))
        probabilities = ops.softmax(logarithms, 1).output(0)
    whole = openvino.Model([ops.result(probabilities)], [photos], "ray-trash")
    for end, name in zip((whole.input(0), whole.output(0)), names, strict=True):
        end.get_tensor().set_names({name})
    for key, value in metadata.items():
        whole.set_rt_info(value, ["ray_trash", key])
    return whole


def round_weights(network: Any) -> None:
    """Let a network's float32 constants be bfloat16 and be converted where they are used: half the bytes.

    It is what a processor that computes in bf16 makes of them anyhow.
    """
    openvino = import_openvino()
    for constant in network.get_ops():
        if constant.get_type_name() != "Constant" or constant.get_element_type() != openvino.Type.f32:
            continue
        readers = constant.output(0).get_target_inputs()
        rounded = openvino.opset13.constant(np.ascontiguousarray(constant.data), dtype=openvino.Type.bf16)
        widened = openvino.opset13.convert(rounded, "f32")
        for reader in readers:
            reader.replace_source_output(widened.output(0))


def to_ir(network: Any, *, below: Path | None = None) -> tuple[bytes, bytes]:
    """Render a network as the files of OpenVINO's IR: XML, and the numbers of its constants.

    OpenVINO writes nothing but files; they are made `below` a folder, by default the system's for temporary ones.
    """
    with tempfile.TemporaryDirectory(dir=below) as folder:
        xml, numbers = Path(folder) / "network.xml", Path(folder) / "network.bin"
        import_openvino().serialize(network, xml, numbers)
        return xml.read_bytes(), numbers.read_bytes()


def from_ir(ir: tuple[bytes, bytes], where: str) -> Any:
    """Read what `to_ir` rendered, in which nothing can run; `where` names the checkpoint, for a `CheckpointError`."""
    xml, numbers = ir
    openvino = import_openvino()
    try:
        return openvino.Core().read_model(xml, numbers)
    except RuntimeError as error:
        raise CheckpointError(
            f"{where}: this OpenVINO, {openvino.__version__}, does not read its int8 network; use the version that the "
            "checkpoint names, or quantize anew"
        ) from error
