"""Slow rounds: train the top blocks of the encoder, in small units beside the fast head.

    schedule    when a round is due
    plan        on what it trains, and how deep: all its batches, drawn when it begins
    round       its phases: an encoder is trained or was offered, the fast head is rebuilt under it, both are measured
    training    the inputs of the gradient steps, and labels for texts that nobody labelled
    trainer     the gradient steps; adamw, their optimizer
    strategies  how new and replayed samples share a step
    avalanche   the gradient steps by a strategy or plugin of Avalanche
    next_head   the fast head that is rebuilt: from the memory, from what it knows beyond, from what comes meanwhile
    trial       the encoder that a round has made beside the one in use, on new labels
    worker      the threads in which units run, at a lower priority than that of labels

A `Schedule` says what is due, `draw_plan` draws it, and `SlowRound.step` begins a unit of it. From outside, `Knowledge`
begins a round and steps it; the checkpoint holds its plan.
"""
