"""Slow rounds: train the top blocks of the encoder, in small units beside the fast head.

    schedule        when a round is due, and on what: all its batches, drawn when it begins
    round           the phases of a round: pseudo-labels, training, storing, rebuilding the fast head from the memory,
                    carrying over what it knows beyond, measuring
    pseudo_labels   labels for texts that nobody labelled
    trainer, adamw  the gradient steps; strategies/ how new and replayed samples share them
    avalanche/      the gradient steps by a strategy or plugin of Avalanche

A `Schedule` says what is due, `draw_plan` draws it, and `SlowRound.step` does a unit of it. From outside, `Knowledge`
begins a round and steps it; the checkpoint holds its plan.
"""
