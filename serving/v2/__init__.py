"""The Open Inference Protocol, version 2: what REST (`serving/http/v2.py`) and gRPC (`serving/grpc/`) have in common.

    tensors --tensors--> values --model.events_of--> Event ... Answer --model.columns_of--> tensors

`tensors` has the tensors and their bytes, `model` the model's names, inputs, outputs and versions.
"""
