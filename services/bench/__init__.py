"""`lifelong bench`: measurements that anyone can repeat on their own data."""
