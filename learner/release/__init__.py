"""Turns what a learner knows into a version that replicas load, and does what follows from publishing it.

    publisher          when a version is published, step by step; asks the gate, sends, waits for the store's disk
    candidate          makes a version and measures it, beside its parent and the reference of the rollout
    attempts           when to try, and again after a failure
    checkpoint_writer  when the state is written down, and what is pruned
    parent             which version the learner goes on from; follows the store's pointer, counts refusals
    tensors            the tensors of published versions, to be sent, or written again if the store lost them
    commands           what is asked of the learner through the store: erasures, changes of labels, encoders, repairs
    rebuild            makes a published version again from the topics

The learner's process drives the publisher and the commands, one after another, in one thread.
"""
