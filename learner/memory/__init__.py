"""Memory: the samples that the learner keeps, and the subjects that it must not keep.

    replay      reservoirs of learnt samples, to be trained on again; policies says what has equal shares
    holdout     samples that are never learnt, and their cached vectors: accuracy is measured on them
    targets     what their labels say of the rows of a head, and which logits are right
    erasures    the erased subjects, and how far each erasure has come

Samples enter by `add`, and leave where a bound, `erase` or `erase_class` drops them. From outside, the learner adds and
erases, a slow round draws from the replay memory, and the quality checks measure on the holdout.
"""
