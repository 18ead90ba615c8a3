"""How good a candidate is, and whether it may be published. Nothing here changes the learner.

    comparison   two versions on the same samples, as counts; the anchor, which is the best version so far
    evaluation   measures a candidate beside its parent and the anchor
    event_ring   the labelled events that came last
    name_changes what a candidate names differently from the reference of the rollout
    named_rows   the rows that versions name, where their classes are others
    set_changes  the same where labels are sets
    class_weights  classes that are worth more than others, and how well they are ranked
    kind_figures what is reported of sets and scores: micro-F1, mean absolute error
    certainty    how certain a version is of texts of its classes
    review       what is measured now and then, beside publications
    parity       the served precisions beside full precision
    temperature  calibration of the scores
    gate         refusals, from what was measured

`learner.release` measures a candidate and asks the gate; `Knowledge` asks it whether a round's encoder is worse.
"""
