"""What a learner writes down, and how it goes on from that.

    snapshot                 everything that a learner knows as one value, and its bytes
    persistence              learner -> snapshot -> knowledge
    checkpoint               the files: atomic, fenced by epochs, pruned
    checkpoint_file          what the name of such a file says
    shared, sealed_file      the newest of them, sealed, where a standby on another machine finds it
    journal                  what was learnt since a checkpoint
    origin, base_encoder     what a state belongs to, and what is kept of it under other settings
    bases, tensor_file       which encoder a state stands on: that of the settings, or one that was adopted, in a file
    parts                    the memories by the settings, empty or restored
    lineage                  the rounds that the knowledge came from
    rounded                  the cache of the rounded base encoder

From outside: `Learner.export` and `restore`, and `Checkpoints`. A checkpoint file is read by later releases.
"""
