"""Slow rounds: train the top blocks of the encoder, in small units beside the fast head.

    schedule        when a round is due
    round_plan      on what it trains, and how deep: all its batches, drawn when it begins
    worker          the thread in which units run, at a lower priority than that of labels
    making          where the next encoder is from: pseudo-labels, training and storing, or an operator's offer
    round           the phases of a round after that: rebuilding the fast head, measuring, a trial
    next_head       the fast head that is rebuilt: from the memory, from what it knows beyond, from what comes meanwhile
    pseudo_labels   labels for texts that nobody labelled
    trial           the encoder that a round has made beside the one in use, on new labels
    training        the inputs of the gradient steps
    trainer, adamw  the gradient steps; strategies/ how new and replayed samples share them
    avalanche/      the gradient steps by a strategy or plugin of Avalanche

A `Schedule` says what is due, `draw_plan` draws it, and `SlowRound.step` begins a unit of it. From outside, `Knowledge`
begins a round and steps it; the checkpoint holds its plan.
"""
