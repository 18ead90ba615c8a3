"""Turns feedback into weights: joins labels to answers, learns with replay, gates, requantizes, publishes.

    process                the loop over records; leadership, circuit_breaker and patience: its lease and its servers
    relabelling            what operators do to the set of labels, relabelled_sets where an event has several of them
    standardisation        the scales of numbers
    learner, knowledge     what was read, and what labels have taught; progress: the numbers that both decide by
    tiers                  how deep a round trains, by how far texts have moved
    labels/                records -> samples: the join, trust in labels, drift
    memory/                replay memory, holdout, erasures
    fast/                  random features and the ridge head: learns at once
    slow/                  rounds of training of the encoder's top blocks
    distill/               training of an encoder to compute what another one does, without labels
    quality/               how good a candidate is, and the gate
    release/               candidate -> version in the store
    state/                 snapshots and checkpoints
    config, errors, export, report, stopwatch, failpoints, extras

Records go through labels into memory and the fast head at once, in the learner's thread. Threads beside it do units of
slow rounds, solve bases, send versions and find the answers of late labels; what they make is taken between two polls.
From outside: `process.run`, `Learner`, `LearnerConfig`.
"""
