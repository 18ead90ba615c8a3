"""The plain server of row E6: FastAPI in its usual form, which calls the encoder in float32 in eager torch.

    python plain_server.py plain PORT FOLDER

It has the model, the tokenizer and the cores of our service, and no batching, no kernels and no quantization. The name
and FOLDER are unused: `bench/peers/http_servers.py` starts every peer with the same arguments.
"""

import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from model.bert import load_encoder
from model.ragged import RaggedBatch

MAX_TOKENS = 512
NUM_CLASSES = 150


class TextsBody(BaseModel):
    """The texts of a request."""

    texts: list[str]


def make_app() -> FastAPI:
    """Returns the application with its model."""
    app = FastAPI()
    strata, tokenizer = load_encoder("minilm-l6", max_tokens=MAX_TOKENS)
    # The weights are random: they take the same time as trained weights.
    head_DC = torch.randn(strata.config.d_model, NUM_CLASSES, generator=torch.Generator().manual_seed(0))

    @app.post("/predict")
    def predict(body: TextsBody) -> list[dict[str, float]]:
        """Returns the number of the best class of each text, and its probability."""
        with torch.no_grad():
            z_BD = strata(RaggedBatch.of(tokenizer.encode_many(body.texts)))
            best_B = (z_BD @ head_DC).softmax(dim=1).max(dim=1)
        return [
            {"label": label, "score": score}
            for label, score in zip(best_B.indices.tolist(), best_B.values.tolist(), strict=True)
        ]

    return app


if __name__ == "__main__":
    uvicorn.run(make_app(), host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
