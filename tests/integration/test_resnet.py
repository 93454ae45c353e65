"""What is loaded with torchvision's network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ANSWER = """
import sys
from pathlib import Path
from ray_trash.model.predictor import Predictor
from tests.models import write_model

write_model(Path(sys.argv[1]))
Predictor.load(sys.argv[1], device="cpu")
assert "torch._dynamo" not in sys.modules
"""

POOLING = """
import torch
from torchvision.ops import roi_align

pooled = roi_align(torch.arange(16.0).reshape(1, 1, 4, 4), [torch.tensor([[0.0, 0.0, 2.0, 2.0]])], output_size=1)
assert pooled.item() == 5, pooled
said = sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu")
from torch._dynamo.utils import is_compile_supported
assert said == is_compile_supported("cpu")
"""

ASK_FOR_MORE = """
from ray_trash.model.resnet import _compiler_left_out

del sys.modules["torch._dynamo.utils"]
with _compiler_left_out():
    assert not hasattr(sys.modules["torch._dynamo.utils"], "__file__")
    from torch._dynamo.utils import same
assert same.__module__ == "torch._dynamo.utils"
assert sys.modules["torch._dynamo.utils"].__file__
"""


def test_a_process_that_answers_loads_no_compiler_and_whatever_asks_for_it_gets_it(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", ANSWER + POOLING + ASK_FOR_MORE, tmp_path], cwd=root, check=True, timeout=120)
