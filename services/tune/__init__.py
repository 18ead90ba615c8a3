"""How many replicas with how many threads answer fastest on this machine: measured once, remembered, used."""
