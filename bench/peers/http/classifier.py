"""The model of all peers: texts to labels by ONNX Runtime, INT8, on all cores."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

MAX_TOKENS = 256
NUM_CLASSES = 150


class Classifier:
    """Has a tokenizer, an encoder and a head of random weights, which costs what a trained one does."""

    def __init__(self, folder: str) -> None:
        self._tokenizer = Tokenizer.from_file(str(Path(folder, "tokenizer.json")))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        path = str(Path(folder, "model.onnx"))
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._head_DC = np.random.default_rng(0).standard_normal((384, NUM_CLASSES), dtype=np.float32)

    def predict(self, texts: list[str]) -> list[dict[str, object]]:
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
