"""Strategies of continual learning by gradient: how the gradient of one step comes about."""
