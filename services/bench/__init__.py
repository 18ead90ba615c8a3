"""`lifelong bench`: continual-learning measurements that anyone can repeat on their own data.

options, sets (data sets and strategies by name) -> command (runs them) -> table, plot
"""
