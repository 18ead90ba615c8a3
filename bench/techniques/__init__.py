"""Measures each technique of the model family against its bars (docs/ledger.md): `python -m bench --only E7`.

sparse_attention.py     E1      sharing.py        E2      layered_tuning.py       E4      batching.py       E6
quantization.py         E7      profiles.py       E11     adaptive_precision.py   E12     head_pruning.py   E13
static.py               the static encoder             pretraining.py          E3, E5

tasks.py           the texts of the experiments, and encoders that are tuned, quantized and tested for a task
virtual_time.py    plays arrivals at the queue in virtual time (E12)
lone_server.py     runs one encoder alone in a process (E6)
plain_server.py    the server that E6 compares with ours
replica_engine.py  runs the engine of a replica (E1, E6)
recall.py          trains toy encoders that recall values by keys (E1)
long_texts.py      compares whole contracts with their first 512 tokens (E1)
"""
