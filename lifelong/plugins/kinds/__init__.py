"""The kinds of labels. Each has two halves: the label strings, which load no torch, and the tensors.

classes, class_tensors    one class                     sets, set_tensors    a set of classes
scores, score_tensors     a number in a range           temperature          temperature scaling of classes and sets
"""
