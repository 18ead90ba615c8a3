"""Measures each technique of the model family against its bar: `python -m bench.techniques` (docs/ledger.md).

    experiment.py   a row of the ledger: claim, bars, the function that measures
    run.py          lists the rows and runs them, seed after seed; keeps what each seed measured
    document.py     writes ledger.jsonl and ledger.md
    tasks.py        the texts of the rows, and what is made of an encoder for each task
    virtual_time.py    arrivals at the queue, in virtual time (E12)
    lone_server.py     an encoder alone in a process (E6)       replica_engine.py    a replica's engine (E1, E6)

    sparse_attention.py     E1      sharing.py        E2      layered_tuning.py       E4      batching.py       E6
    quantization.py         E7      profiles.py       E11     adaptive_precision.py   E12     head_pruning.py   E13

    recall.py       toy encoders that recall values by keys (E1)       long_texts.py    whole contracts (E1)

run --SeedRun--> an experiment --Figure--> rows and lines (evals/results) --> document
"""
