"""Ray Serve with its own batching and its own proxy, and ONNX Runtime behind them."""

import sys
import threading

from classifier import Classifier
from ray import serve
from ray.serve.config import HTTPOptions
from starlette.requests import Request

MAX_BATCH = 64
WAIT_S = 0.002


@serve.deployment(max_ongoing_requests=256)
class BatchedClassifier:
    def __init__(self, folder: str) -> None:
        self._classifier = Classifier(folder)

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
    async def _many(self, texts: list[str]) -> list[dict[str, object]]:
        return self._classifier.predict(texts)

    async def __call__(self, request: Request) -> list[dict[str, object]]:
        texts = (await request.json())["texts"]
        if len(texts) > 1:
            return self._classifier.predict(texts)
        return [await self._many(texts[0])]


if __name__ == "__main__":
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(sys.argv[1])))
    deployment: serve.Deployment = BatchedClassifier  # type: ignore[assignment]  # its stub forgets this form
    serve.run(deployment.bind(sys.argv[2]), route_prefix="/predict")
    threading.Event().wait()
