"""Measures every number that is published, one command each: `python -m bench [--only NAME] [--calls N]`.

    harness/      the register of all cases, and the code that they share; a row is defined in evals/results/
    encoder.py, precision.py, hardware_limit.py, kernels.py, sparse_attention.py    the encoder; its peers are in peers/
    over_kafka.py           the service: latency, and throughput with and without labels to learn
    setting_costs.py, tasks.py    the cost of a setting, measured in turns: exactly-once answers, a field map,
                                  telemetry, three tasks
    http.py (with http_load.py)   the service, compared with other servers
    overload.py   the service at three times the load that it can answer
    import_pace.py    the import of labelled history into the service
    swaps.py      hot swaps and rollbacks of the service
    learner_pace.py, head_update.py, label_flips.py, concept_change.py, million.py    the learner
    backlog.py    a learner that was stopped for a while, and many labels that come a week late
    demo.py       runs of `lifelong demo`, observed from outside: the support stream, and CLINC150
    learning.py   learners compared by `lifelong bench learn`
    scale.py      which part of a large service falls behind first: costs measured here, and a simulated day
    series.py     a series of electricity prices through a service, row by row
    live.py       a service that learns while it answers, compared with an instant oracle
    soak.py       the service at a steady load for a long time: does any resource grow?
    walk.py       the files and functions that run for an event, and for labels and the version that learns them
    chaos/        kills, power cuts and other faults under load
    techniques/   the techniques of the model family, each against its bars (docs/ledger.md)

Tests and `make bench` use it; nothing that runs in production imports it.
"""
