"""The evaluation of candidates, and the gate that decides whether a candidate may be published.

    comparison     compares two versions on the same samples by counts; the anchor, which is the best version so far
    evaluation     measures a candidate, compared with its parent and with the anchor; its certainty
    class_weights  classes that are worth more than others, and how well a version ranks them
    recent_events  the last labelled events, and how the rollout's reference predicts them
    name_changes   counts of predictions that differ between a candidate and the reference
    calibration    measured at intervals: temperature, threshold, and the served precisions
    gate           the reasons to refuse a candidate

`learner.release` measures each candidate and asks the gate. A slow round asks the gate whether its encoder is worse.
Only the calibration changes the learner's state.
"""
