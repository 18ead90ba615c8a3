"""Strategies and plugins of Avalanche in slow rounds, and what the evaluations use of Avalanche. Its only importer.

    learner.slow_strategy --library--> class of Avalanche --trainer--> a slow round, which is one experience of it

library    classes by import path, strategies made of them, experiences made of tensors
trainer    the steps of a round, each a mini-batch of Avalanche's own loop
"""
