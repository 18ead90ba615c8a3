"""`lifelong demo`: plays a labelled data set as a stream with delayed labels, and scores the service on it.

    options -> command (starts a fresh stack, plays, feeds the page) -> report (while it runs; then table, JSON, plot)
                      fresh (settings of a service that has learnt nothing, and what it has on shared servers)
                      change (goes over to another profile meanwhile)

The load itself, its ledger and its score are in `evals/load`.
"""
