"""The profiles `nano`, `base` and `pro`: what each fixes, and what its promise means at other sizes.

    profile.py     a name for a model, a precision, limits of serving and a service level: frozen
    arithmetic.py  memory and latency of decoders of 3, 7 and 13 billion parameters, by arithmetic
    explain.py     both as text: `lifelong profile --explain`
    encoders.py    the encoders of `nano` and `base`, made at first use

`profile = "base"` in the settings fills in what nothing else sets (`services.settings`); the replica checks the service
level while it runs (`serving/observers.py`), and `lifelong status` shows it.
"""
