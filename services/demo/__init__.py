"""Implements `lifelong demo`: plays a labelled data set as a stream with delayed labels, and scores the service.

    options -> command (starts a fresh stack, plays, feeds the page) -> report (during the run; then table, JSON, plot)
                      fresh (settings of an untrained service, and its cleanup on shared servers)
                      change (changes to another profile during the run)
                      second_domain (moves to texts of another domain, on which the encoder is pretrained)

The load itself, its ledger and its score are in `evals/load`.
"""
