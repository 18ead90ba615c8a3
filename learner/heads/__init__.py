"""Heads in closed form: sums of what was seen, solved for a classifier. They forget nothing and know no order."""
