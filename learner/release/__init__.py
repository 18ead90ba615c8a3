"""Makes model versions from the learner's knowledge, publishes them, and executes the operators' commands.

    publisher          publishes a version, step by step; asks the gate, sends, waits for the store's disk
    candidate          makes and evaluates a version, compared with its parent and the baseline of the rollout
    publish_backoff    the pauses between attempts to publish, also after a failure
    checkpoint_writer  writes checkpoints and the journal, and prunes them
    parent             the version that the learner continues from; follows the store's pointer, counts refusals
    tensors            caches the tensors of published versions, to send them, or to restore them in the store
    commands           executes the commands in the store's log, in their order
    handlers           the handler of each command: erasures, changes of labels, encoders, repairs
    rebuild            rebuilds a published version from the topics

The learner's process polls the publisher and the commands in one thread.
"""
