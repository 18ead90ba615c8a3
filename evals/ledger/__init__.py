"""Measures each technique of the model family against its bar: `lifelong ledger` (docs/ledger.md has the numbers).

    experiment.py   a row of the ledger: claim, bars, the function that measures
    register.py     all of them
    run.py          runs them, seed after seed      measured.py   keeps what each seed measured
    document.py     writes ledger.jsonl and ledger.md
    tasks.py        the tasks of the rows that compare encoders, and a copy of an encoder tuned for one
    contracts.py, long_texts.py     long texts (E1)     virtual_time.py   arrivals at the queue, in virtual time
    served_model.py     an encoder and a head as a replica runs them
    lone_server.py      an encoder alone in a process (E6)        replica_engine.py  a replica's engine (E1, E6)

    sparse_attention.py     E1      sharing.py        E2      layered_tuning.py       E4      batching.py       E6
    quantization.py         E7      profiles.py       E11     adaptive_precision.py   E12     head_pruning.py   E13

    torchao_int4.py   a peer of E7          deltas.py   how much a round of the learner changes (E7)
    recall.py       toy encoders that recall values by keys      span_speed.py   the time of attention, ours and torch's

register --> run --SeedRun--> an experiment --Figure--> rows and lines (evals/results) --> document
"""
