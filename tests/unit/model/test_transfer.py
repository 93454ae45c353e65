from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_trash.model.transfer import Uploads, to_device, to_host

CPU = torch.device("cpu")


def test_on_a_cpu_values_are_there_already_and_none_is_copied() -> None:
    values = np.arange(6.0).reshape(2, 3)
    for tensor in (to_device(values, CPU), Uploads(CPU)(values)):
        assert tensor.data_ptr() == values.ctypes.data
        assert to_host(tensor)().ctypes.data == values.ctypes.data


@pytest.mark.gpu
def test_a_gpu_gets_what_was_sent_and_gives_it_back_while_nobody_waits() -> None:
    device, sent = torch.device("cuda", 0), [np.full((64, 1000), n, np.float32) for n in range(50)]
    upload = Uploads(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        answers = [to_host(upload(values) * 2 + to_device(values, device)) for values in sent]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for values, answer in zip(sent, answers, strict=True):
        np.testing.assert_array_equal(answer(), 3 * values)
