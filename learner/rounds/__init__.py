"""Slow rounds: fine-tune the top blocks of the encoder in small units of work, while the fast head keeps learning.

    schedule    decides when a round is due
    plan        all training batches of a round, and the number of trained blocks, fixed when the round begins
    round       the phases of a round: train or fetch an encoder, rebuild the fast head under it, compare both heads
    training    the inputs of the gradient steps; pseudo-labels for texts without a label
    trainer     the gradient steps; adamw: their optimizer
    strategies  continual-learning strategies: how one step uses new and replayed samples
    avalanche   the gradient steps by a strategy or plugin of Avalanche
    next_head   the fast head under the next encoder, from the replay buffer, the old sums and new labels
    trial       the comparison of the next encoder with the current one on new labels
    worker      the threads that run the units, at a lower priority than the learner's thread

`Schedule` decides which round is due, `draw_plan` draws its batches, and `SlowRound.step` runs its next unit. Entry
point: `Knowledge` begins and steps rounds. A checkpoint holds the plan of an unfinished round.
"""
