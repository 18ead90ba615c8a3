"""Turns what a learner knows into a version that replicas load, and does what follows from publishing it.

    candidate          makes a version and measures it; sends its blobs
    attempts           when to try, and again after a failure
    sender             sends its manifest, and waits for the store's disk behind it
    publisher          when a version is published, step by step; asks the gate
    checkpoint_writer  when the state is written down, and what is pruned
    reference          the version that candidates are compared with
    parent             which version the learner goes on from; follows the store's pointer, counts refusals
    tensors, repair    writes damaged blobs again
    store_turns        when the next four ask the store, and what becomes of a failure
    eraser             carries out erasures
    relabeller         follows what operators do to the set of labels
    adopter            follows the offer of another encoder, and notes what became of it
    rebuild            makes a published version again from the topics

The learner's process drives publisher, adopter, eraser, relabeller and repairer, one after another, in one thread.
"""
