"""Servers on this machine for whoever has none: on 127.0.0.1, on free ports, gone with whoever started them."""
