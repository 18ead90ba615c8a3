"""Continual learning measured offline: stages of labelled items in, a matrix of accuracies out."""
