"""Continual-learning strategies side by side: one contender learns the stages of a benchmark and is tested on them.

    contender.py  what a contender is, and what it stores and computes
    runner.py     the two protocols: stage by stage, or test-then-train row by row
    texts.py, recipes.py, streams.py    the contenders by name for texts, images and tables
    whole_learner.py, top_blocks.py, frozen.py    for texts: the service's learner, others that train the same blocks of
                                                  the encoder, and heads on the encoder as it comes
    gradient.py, avalanche.py    contenders trained by gradient, with their memory, and Avalanche's own
    hedged_ridge.py, heads.py    contenders in closed form
    measures.py, outcome.py    the matrix of accuracies, and the record that is written

`Method` (a maker and a protocol) goes in, `RunOutcome` comes out; `services/bench/command.py` has the table of both.
"""
