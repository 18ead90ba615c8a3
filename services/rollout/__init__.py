"""Decides which version answers which share of the traffic, from what the labels say."""
