"""Other servers with the same model, each run as a program: `python http_apps.py APP PORT FOLDER`.

    fastapi     FastAPI in its usual form: a function for each request, in a pool of threads
    ray         Ray Serve with its own batching and its own proxy
    litserve    LitServe with its batching
    bentoml     BentoML with its adaptive batching
    mlserver    MLServer with its adaptive batching, over the Open Inference Protocol

All call ONNX Runtime in INT8; FOLDER has the model and the tokenizer. The first two run in our environment, each of the
others in an environment of its own (`bench/peers/http_servers.py`), which has only the packages of that server, so this
file imports none of our code. Each framework has its fastest settings: batching with the waiting time that pays, one
worker for the model, and all cores for its session.

Frameworks import this file again in processes of their own with other arguments, so environment variables tell the app.
"""

import os
import sys
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

if __name__ == "__main__":
    os.environ["PEER_APP"] = sys.argv[1]
    os.environ["PEER_MODEL"] = sys.argv[3]

APP = os.environ["PEER_APP"]
FOLDER = os.environ["PEER_MODEL"]

MAX_TOKENS = 256
NUM_CLASSES = 150
MAX_BATCH = 64
WAIT_S = 0.002

Answer = dict[str, object]


class Classifier:
    """A tokenizer, an encoder and a head. The head has random weights, which take the same time as trained weights."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_file(str(Path(FOLDER, "tokenizer.json")))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        path = str(Path(FOLDER, "model.onnx"))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._head_DC = np.random.default_rng(0).standard_normal((384, NUM_CLASSES), dtype=np.float32)

    def predict(self, texts: list[str]) -> list[Answer]:
        """Returns the label and its probability for each text."""
        encodings = self._tokenizer.encode_batch(texts)
        ids_BT = np.array([encoding.ids for encoding in encodings], dtype=np.int64)
        mask_BT = np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64)
        z_BD = self._session.run(None, {"ids": ids_BT, "mask": mask_BT})[0]
        logits_BC = z_BD @ self._head_DC
        logits_BC -= logits_BC.max(axis=1, keepdims=True)
        p_BC = np.exp(logits_BC)
        p_BC /= p_BC.sum(axis=1, keepdims=True)
        best_B = p_BC.argmax(axis=1)
        return [{"label": int(best), "score": float(p_C[best])} for best, p_C in zip(best_B, p_BC, strict=True)]


if APP == "fastapi":
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    app = FastAPI()
    classifier = Classifier()

    class TextsBody(BaseModel):
        texts: list[str]

    @app.post("/predict")
    def predict(body: TextsBody) -> list[Answer]:
        return classifier.predict(body.texts)

    def serve(port: int) -> None:
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)

elif APP == "ray":
    import threading

    from ray import serve as ray_serve
    from ray.serve.config import HTTPOptions
    from starlette.requests import Request

    @ray_serve.deployment(max_ongoing_requests=256)
    class BatchedClassifier:
        def __init__(self) -> None:
            self._classifier = Classifier()

        @ray_serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT_S)
        async def _many(self, texts: list[str]) -> list[Answer]:
            return self._classifier.predict(texts)

        async def __call__(self, request: Request) -> list[Answer]:
            texts = (await request.json())["texts"]
            if len(texts) > 1:
                return self._classifier.predict(texts)
            return [await self._many(texts[0])]

    def serve(port: int) -> None:
        ray_serve.start(http_options=HTTPOptions(host="127.0.0.1", port=port))
        deployment: ray_serve.Deployment = BatchedClassifier  # type: ignore[assignment]  # its stub forgets this form
        ray_serve.run(deployment.bind(), route_prefix="/predict")
        threading.Event().wait()

elif APP == "litserve":
    import litserve

    class LitClassifier(litserve.LitAPI):
        def setup(self, device: str) -> None:
            self._classifier = Classifier()

        def decode_request(self, request: dict[str, list[str]]) -> list[str]:
            return request["texts"]

        def batch(self, inputs: list[list[str]]) -> list[list[str]]:
            return inputs

        def predict(self, inputs: list[list[str]]) -> list[list[Answer]]:
            answers = self._classifier.predict([*chain.from_iterable(inputs)])
            begins = accumulate(map(len, inputs), initial=0)
            return [answers[begin : begin + len(texts)] for begin, texts in zip(begins, inputs, strict=False)]

        def unbatch(self, output: list[list[Answer]]) -> list[list[Answer]]:
            return output

        def encode_response(self, output: list[Answer]) -> Answer:
            return {"answers": output}

    def serve(port: int) -> None:
        api = LitClassifier(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S)
        server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
        server.run(host="127.0.0.1", port=port, log_level="error", generate_client_file=False)

elif APP == "bentoml":
    import bentoml

    @bentoml.service(workers=1, traffic={"timeout": 30, "max_concurrency": 256}, logging={"access": {"enabled": False}})
    class BentoClassifier:
        def __init__(self) -> None:
            self._classifier = Classifier()

        @bentoml.api(route="/predict", batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=30_000)
        def predict(self, texts: list[str]) -> list[Answer]:
            return self._classifier.predict(texts)

    def serve(port: int) -> None:
        os.chdir(Path(__file__).parent)
        program = Path(sys.executable).with_name("bentoml")
        command = [str(program), "serve", "http_apps:BentoClassifier", "--host", "127.0.0.1", "--port", str(port)]
        os.execv(program, command)

elif APP == "mlserver":
    import asyncio

    from mlserver import MLModel, MLServer, ModelSettings, Settings
    from mlserver.codecs import StringCodec
    from mlserver.types import InferenceRequest, InferenceResponse

    class MLClassifier(MLModel):
        async def load(self) -> bool:
            self._classifier = Classifier()
            return True

        async def predict(self, payload: InferenceRequest) -> InferenceResponse:
            answers = self._classifier.predict(StringCodec.decode_input(payload.inputs[0]))
            labels = [str(answer["label"]) for answer in answers]
            return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("label", labels)])

    def serve(port: int) -> None:
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
        asyncio.run(MLServer(settings).start([model]))


if __name__ == "__main__":
    serve(int(sys.argv[2]))
