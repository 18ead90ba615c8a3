"""Turns what a learner knows into a version that replicas load, and does what follows from publishing it.

    candidate          makes a version and measures it; its manifest and blobs
    gatekeeper         lets a candidate pass, or counts why not
    publisher          when a version is published, step by step; flight sends it
    checkpoint_writer  when the state is written down, and what is pruned
    parent             which version the learner goes on from; follows the store's pointer
    tensors, repair    writes damaged blobs again
    eraser             carries out erasures
    rebuild            makes a published version again from the topics

The learner's process drives publisher, eraser and repairer, one after another, in one thread.
"""
