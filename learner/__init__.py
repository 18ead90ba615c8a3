"""Turns feedback into weights: joins labels to answers, learns with replay, gates, requantizes, publishes.

    process                   the loop over records; leadership: its lease, and what it does while servers are away
    learner, knowledge        what was read, and what labels have taught; progress: the numbers that both decide by
    learning, unlearning      samples into the sums and memories, and out of them
    relabelling               what operators do to the set of labels, relabelled_sets where an event has several of them
    standardisation           the scales of numbers
    samples, targets          a labelled sample, and what waits to become one; what its label says of the rows of a head
    memory                    the replay memory and the holdout
    drift, prequential        that the stream has changed, how deep the next round trains; accuracy of what was served
    intake/                   records -> samples: the join, trust in labels
    encoder/                  the encoder as replicas run it, and its trained blocks
    fast/                     random features and the ridge head: learns at once
    rounds/                   slow rounds of training of the encoder's top blocks
    quality/                  how good a candidate is, and the gate
    release/                  candidate -> version in the store
    state/                    snapshots and checkpoints
    report, label_traces      what others are told: reports, and the spans of labels
    config, errors, plugins, stopwatch, failpoints

Records go through intake into memory and the fast head at once, in the learner's thread. Threads beside it do units of
slow rounds, solve bases, send versions and find the answers of late labels; what they make is taken between two polls.
From outside: `process.run`, `Learner`, `LearnerConfig`.
"""
