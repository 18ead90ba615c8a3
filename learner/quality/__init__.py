"""The evaluation of candidates, and the gate that decides whether a candidate may be published.

    comparison     compares two versions on the same samples, by counts; the anchor: the best version so far
    evaluation     measures a candidate, and compares it with its parent and with the anchor; fits its certainty
    class_weights  classes whose right predictions are worth more, and how well a version ranks these classes
    recent_events  compares a candidate with the rollout's reference on the last labelled events
    name_changes   counts the predictions that differ between a candidate and the reference
    calibration    measures temperature, threshold and the served precisions at intervals
    gate           lists the reasons to refuse a candidate

`learner.release` measures each candidate and asks the gate. A slow round asks the gate whether its encoder is worse.
Only the calibration changes the learner's state.
"""
