"""The encoder: the form in which it is served, and the blocks of it that slow rounds train.

top    the trained blocks: a copy of their own, their weights, and what lies below them
"""
