"""Heads of the user.

own    a class that makes the weights of a version of the sums of all labels
"""
