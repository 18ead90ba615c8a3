"""Implements `lifelong model ...` and `lifelong search`: makes smaller or faster encoders, and reports their costs.

source     opens the encoder and the texts of a command, writes the resulting folder, and reports the costs
change     convert, share, prune and export by arithmetic; distill, which resumes from its checkpoint after a kill
search     finds encoders for tasks and this machine, and trains the chosen ones by the steps of `change`
adopt      quantize: the weights as they are served; adopt: offers them to the learner of a running service, and awaits
           its decision
"""
