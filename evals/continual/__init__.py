"""Compares continual-learning strategies: a contender learns the stages of a benchmark and is tested on them.

    contender.py         the protocol of a contender, and the counts of its memory and computation
    runner.py            the two evaluation protocols: stage by stage, or test-then-train row by row
    texts.py, recipes.py, streams.py    the contenders by name, for texts, images and tables
    whole_learner.py     for texts: the service's learner
    top_blocks.py        for texts: contenders that train the same blocks of the encoder
    frozen.py            for texts: heads on the pretrained encoder, which is not trained
    gradient.py          contenders that are trained by gradient, with a replay memory
    avalanche.py         Avalanche's strategies
    hedged_ridge.py, heads.py    contenders with a closed-form solution
    measures.py, outcome.py      measures of the matrix of accuracies, and the recorded result

A `Method` (a factory and a protocol) is run and yields a `RunOutcome`; `services/bench/command.py` prints the outcomes.
"""
