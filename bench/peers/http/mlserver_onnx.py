"""MLServer with its adaptive batching, over the Open Inference Protocol, and ONNX Runtime."""

import asyncio
import os
import sys

from classifier import Classifier
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

MAX_BATCH = 64
WAIT_S = 0.002


class MLClassifier(MLModel):
    async def load(self) -> bool:
        self._classifier = Classifier(os.environ["CLASSIFIER"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answers = self._classifier.predict(StringCodec.decode_input(payload.inputs[0]))
        labels = [str(answer["label"]) for answer in answers]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("label", labels)])


async def main(port: int) -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=port,
        grpc_port=port + 1,
        metrics_port=port + 2,
        parallel_workers=0,
        debug=False,
        load_models_at_startup=False,
    )
    model = ModelSettings(
        name="classifier", implementation=MLClassifier, max_batch_size=MAX_BATCH, max_batch_time=WAIT_S
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    os.environ["CLASSIFIER"] = sys.argv[2]
    asyncio.run(main(int(sys.argv[1])))
