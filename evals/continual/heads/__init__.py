"""Heads in closed form, which `texts.py` compares with the learner's own ridge head.

nearest_mean.py (class means), lda.py (streaming linear discriminant analysis), kernel_lda.py (the same on random
features). All have the verbs of `learner.fast.head.OnlineClassifier`.
"""
