"""How good a candidate is, and whether it may be published. Nothing here changes the learner but a calibration.

    comparison     two versions on the same samples, as counts; the anchor, which is the best version so far
    evaluation     measures a candidate beside its parent and the anchor; figures by kind of label; its certainty
    class_weights  classes that are worth more than others, and how well they are ranked
    recent_events  the labelled events that came last, and the reference of the rollout
    name_changes   what a candidate names differently from that, as counts
    calibration    what is measured now and then: temperature, threshold, and the served precisions
    gate           refusals, from what was measured

`learner.release` measures a candidate and asks the gate; `Knowledge` asks it whether a round's encoder is worse.
"""
