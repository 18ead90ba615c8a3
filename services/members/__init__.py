"""What `lifelong model ...` does: makes other members of the family from an encoder, and says what they cost.

source     opens the encoder and the texts that a command is given, writes what it has made, and says what that costs
change     convert, share and prune by arithmetic; distill, which goes on from its checkpoint after a kill
adopt      quantize: the weights as they are served; hands them to the learner of a running service, and awaits what
           that makes of them
"""
