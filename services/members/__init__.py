"""What `lifelong model ...` does: makes other members of the family from an encoder, and says what they cost.

source     opens the encoder a command starts from, and writes what it has made, with the history of both
texts      the texts and tasks that a command is given; spans: the spans of a command line
change     convert, share and prune: arithmetic, and texts that heads are measured on
distil     the long one: goes on from its checkpoint after a kill
stored     quantize: the weights as they are served, and how far their vectors are from the source's
adopt      hands an encoder to the learner of a running service; decision: what that makes of it
flags      the flags of the longer commands
show       the shape of an encoder, its stored parameters, bytes and operations
"""
