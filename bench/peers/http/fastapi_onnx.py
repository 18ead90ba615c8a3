"""FastAPI and ONNX Runtime, as most would write it: a function for each request, in a pool of threads."""

import sys

import uvicorn
from classifier import Classifier
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
classifier = Classifier(sys.argv[2])


class TextsBody(BaseModel):
    texts: list[str]


@app.post("/predict")
def predict(body: TextsBody) -> list[dict[str, object]]:
    return classifier.predict(body.texts)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
