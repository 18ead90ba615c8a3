"""Measures every number that is published, one command each: `python -m bench [--only NAME] [--calls N]`.

    benches.py    the register: a name, and a function that yields rows
    results.py    where rows are recorded, and one benchmark at a time; a row is defined in evals/results/
    fixtures.py   what several benchmarks share: a running service (service.py)
    encoder.py, precision.py, hardware_limit.py, kernels.py, sparse_attention.py    the encoder; opponents are in peers/
    kafka_latency.py, kafka_throughput.py, while_learning.py                        the service
    exactly_once.py, tasks.py, telemetry.py (with turns.py)                         what a setting costs, by turns
    http.py (with http_load.py)                                                     the service, beside other servers
    import_pace.py, mapping.py    labelled history into the service, and what a map of foreign messages costs
    swap_stall.py, rollback.py (with version_faker.py)                              its swaps
    learner_pace.py, head_update.py, label_flips.py, concept_change.py, million.py    the learner
    backlog.py, late_labels.py    a learner that was away, and a heap of labels that come a week late
    clinc_continual.py    a run of `lifelong demo` on CLINC150, watched from outside (demo_run.py)
    demo.py       a run of `make demo`, whose stream has messages of two kinds
    learning.py   learners beside each other, by `lifelong bench learn`
    profiles.py   the profiles, the encoder of nano, and a change of profile under load: for row E11 of the ledger
    scale.py      which part of a large service falls behind first: costs of here, and a simulated day
    series.py     a series of electricity prices through a service, row by row
    live.py       a service that learns while it answers, beside an instant oracle
    soak.py       the service at a steady load for long: does anything grow?
    chaos/        kills, power cuts and other faults under load      process.py, texts.py, options.py    helpers

Fixtures --> measure(fixtures) --> rows, one call after the other --> terminal and build/bench/results.jsonl

Tests and `make bench` use it; nothing that runs in production imports it.
"""
