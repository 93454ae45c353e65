"""LitServe with our engine, to be compared with: `python -m benchmarks.litserve_endpoint CHECKPOINT PORT`."""

import base64
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from ray_trash.model.predictor import Predictor


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Decodes in two threads, answers by the engine."""

    def __init__(self, checkpoint: str) -> None:
        """Remember what to load."""
        super().__init__()
        self._checkpoint = checkpoint

    def setup(self, device: str) -> None:
        """Load it, in LitServe's worker."""
        self._predictor = Predictor.load(self._checkpoint, engine="auto")
        self._threads = ThreadPoolExecutor(2)

    def decode_request(self, request: Request) -> list[bytes]:
        """Take photos out of JSON; LitServe has read the request that it is told the type of."""
        body: Any = request
        return [base64.b64decode(image["data"]) for image in body["images"]]

    def predict(self, photos: list[bytes]) -> NDArray[np.float32]:
        """Answer the photos of one request."""
        return self._predictor.predict(np.stack(list(self._threads.map(self._predictor.prepare, photos))))

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """Lay out the answers."""
        return {"probabilities": output.tolist()}


def main() -> None:
    """Serve until killed."""
    checkpoint, port = sys.argv[1:3]
    server = litserve.LitServer(Api(checkpoint), accelerator="cpu", timeout=300)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")


if __name__ == "__main__":
    main()
