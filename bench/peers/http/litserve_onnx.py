"""LitServe with its batching, and ONNX Runtime."""

import sys
from itertools import accumulate, chain

import litserve
from classifier import Classifier

MAX_BATCH = 64
WAIT_S = 0.002


class LitClassifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._classifier = Classifier(sys.argv[2])

    def decode_request(self, request: dict[str, list[str]]) -> list[str]:
        return request["texts"]

    def batch(self, inputs: list[list[str]]) -> list[list[str]]:
        return inputs

    def predict(self, inputs: list[list[str]]) -> list[list[dict[str, object]]]:
        answers = self._classifier.predict([*chain.from_iterable(inputs)])
        begins = accumulate(map(len, inputs), initial=0)
        return [answers[begin : begin + len(texts)] for begin, texts in zip(begins, inputs, strict=False)]

    def unbatch(self, output: list[list[dict[str, object]]]) -> list[list[dict[str, object]]]:
        return output

    def encode_response(self, output: list[dict[str, object]]) -> dict[str, object]:
        return {"answers": output}


if __name__ == "__main__":
    api = LitClassifier(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
