"""`lifelong demo`: plays a labelled data set as a stream with delayed labels, and scores the service on it.

    options -> command (starts a fresh stack, plays) -> view (while it runs) -> report (table, JSON, plot)
                      fresh (settings of a service that has learnt nothing), shared_servers (what it has on those)
                      change (goes over to another profile meanwhile), feed (what the page shows of it)

The load itself, its ledger and its score are in `evals/load`.
"""
