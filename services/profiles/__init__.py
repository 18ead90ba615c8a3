"""The profiles `nano`, `base` and `pro`: what each fixes, and what its promise means at other sizes.

    profile.py     a name for a model, a precision, limits of serving and a service level: frozen
    explain.py     that as text, and the arithmetic of decoders of billions of parameters: `lifelong profile --explain`
    encoders.py    the encoders of `nano` and `base`, made at first use

`profile = "base"` in the settings fills in what nothing else sets (`services.settings`); the replica checks the service
level while it runs (`serving/service_level.py`), and `lifelong status` shows it.
"""
