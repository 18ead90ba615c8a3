"""Measures every number that is published, one command each: `python -m bench [--only NAME] [--calls N]`.

    harness/      the register of all cases, and what they have in common; a row is defined in evals/results/
    encoder.py, precision.py, hardware_limit.py, kernels.py, sparse_attention.py    the encoder; opponents are in peers/
    over_kafka.py           the service: latency, full speed, and that beside labels that are learnt
    setting_costs.py, tasks.py    what a setting costs, by turns: exactly-once answers, a map, telemetry, three tasks
    http.py (with http_load.py)   the service, beside other servers
    overload.py   the service, asked for three times what it can answer
    import_pace.py    labelled history into the service
    swaps.py      its swaps and rollbacks
    learner_pace.py, head_update.py, label_flips.py, concept_change.py, million.py    the learner
    backlog.py    a learner that was away, and a heap of labels that come a week late
    demo.py       runs of `lifelong demo`, watched from outside: the support stream, and CLINC150
    learning.py   learners beside each other, by `lifelong bench learn`
    scale.py      which part of a large service falls behind first: costs of here, and a simulated day
    series.py     a series of electricity prices through a service, row by row
    live.py       a service that learns while it answers, beside an instant oracle
    soak.py       the service at a steady load for long: does anything grow?
    walk.py       what runs for an event, and for labels and the version that learns them
    chaos/        kills, power cuts and other faults under load
    techniques/   the techniques of the model family, each against its bars (docs/ledger.md)

Tests and `make bench` use it; nothing that runs in production imports it.
"""
