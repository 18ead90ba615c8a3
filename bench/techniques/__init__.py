"""Measures each technique of the model family against its bars (docs/ledger.md): `python -m bench --only E7`.

sparse_attention.py     E1      sharing.py        E2      layered_tuning.py       E4      batching.py       E6
quantization.py         E7      profiles.py       E11     adaptive_precision.py   E12     head_pruning.py   E13

tasks.py           the texts of the rows, and what is made of an encoder for each task
virtual_time.py    arrivals at the queue, in virtual time (E12)
lone_server.py     an encoder alone in a process (E6)       replica_engine.py    a replica's engine (E1, E6)
recall.py          toy encoders that recall values by keys (E1)       long_texts.py    whole contracts (E1)
"""
