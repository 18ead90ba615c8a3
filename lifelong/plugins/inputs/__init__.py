"""The inputs of events besides texts. Each has two halves: the symbols, which load no torch, and the tensors.

features, feature_tensors    numbers and categories by name        series    those that an event takes over from earlier
"""
