"""Implements `lifelong model ...`: makes smaller or faster encoders of the same family, and reports their costs.

source     opens the encoder and the texts of a command, writes the resulting folder, and reports the costs
change     convert, share, prune and export by arithmetic; distill, which resumes from its checkpoint after a kill
adopt      quantize: the weights as they are served; adopt: offers them to the learner of a running service, and awaits
           its decision
"""
