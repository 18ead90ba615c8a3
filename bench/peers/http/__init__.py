"""Servers of others for the same model, each a program that is run as `python FILE PORT FOLDER`.

classifier.py      tokenizer, encoder and head, by ONNX Runtime in INT8; FOLDER has model and tokenizer
fastapi_onnx.py, serve_batch.py                         in our own environment
litserve_onnx.py, bentoml_onnx.py, mlserver_onnx.py     each in one of its own (`bench/peers/http_servers.py`)

They import nothing of ours, so that an environment needs only what it serves with. What a framework can do for speed is
turned on: batching with no more waiting than pays, one worker for the model, all cores for its session.
"""
