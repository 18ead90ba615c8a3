"""The user's heads.

own    the head family `own`: the user's class computes the weights of a version from the sums over all labels
"""
