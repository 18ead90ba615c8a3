"""Turns feedback into weights: joins labels to answers, learns with replay, gates, requantizes, publishes.

    process                   the loop over records; leadership: the lease, and the retries while servers are away
    learner, knowledge        the learner's state: its position in the topics, and everything it learnt from labels
    progress                  the counters by which rounds and publications are scheduled
    learning, unlearning      add samples to the head's sums, the replay buffer and the holdout, and remove them
    relabelling               operators rename, merge and retire classes; relabelled_sets: the same for sets of labels
    standardisation           the scales of numeric inputs
    samples                   a labelled sample, and the states that a label passes until it is one
    memory                    the replay buffer and the holdout
    drift, prequential        drift detection, which decides how deep rounds train; accuracy of the served answers
    intake/                   records -> samples: the join of labels and answers, trust in labels
    encoder/                  the encoder as replicas run it, and its trained blocks
    fast/                     random features and the closed-form (ridge) head, which learns each label at once
    rounds/                   slow rounds: fine-tuning of the encoder's top blocks
    quality/                  the evaluation of a candidate, and the gate
    release/                  candidate -> model version in the store
    state/                    snapshots and checkpoints
    report, label_traces      reports for operators, and the trace spans of labels
    config, errors, plugins, stopwatch, failpoints

The learner's thread reads records, and adds them to the replay buffer and to the fast head at once. Other threads train
the encoder in slow rounds, one small unit of work at a time. They also solve the head's linear equations, send
versions, and find the answers of late labels. The learner's thread takes their results between two polls.

Entry points: `process.run`, `Learner`, `LearnerConfig`.
"""
