"""BentoML with its adaptive batching, and ONNX Runtime. `bentoml serve` loads it again, with FOLDER in a variable."""

import os
import sys
from pathlib import Path

import bentoml
from classifier import Classifier


@bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 256}, logging={"access": {"enabled": False}})
class BentoClassifier:
    def __init__(self) -> None:
        self._classifier = Classifier(os.environ["CLASSIFIER"])

    @bentoml.api(route="/predict", batchable=True, max_batch_size=64, max_latency_ms=30_000)
    def predict(self, texts: list[str]) -> list[dict[str, object]]:
        return self._classifier.predict(texts)


if __name__ == "__main__":
    os.environ["CLASSIFIER"] = sys.argv[2]
    os.chdir(Path(__file__).parent)
    program = Path(sys.executable).with_name("bentoml")
    os.execv(
        program, [str(program), "serve", "bentoml_onnx:BentoClassifier", "--host", "127.0.0.1", "--port", sys.argv[1]]
    )
