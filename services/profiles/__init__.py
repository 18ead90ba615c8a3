"""The profiles `nano`, `base`, `pro` and `static`: what each fixes, and the cost of its promise at other sizes.

    profile.py     a name for a model, a precision, limits of serving and a service level: frozen
    explain.py     profiles as text, and arithmetic of decoders of billions of parameters: `lifelong profile --explain`
    encoders.py    the encoders of `nano`, `base` and `static`, made at first use

`profile = "base"` in the settings fills in values that nothing else sets (`services.settings`). The replica checks the
service level while it runs (`serving/service_level.py`), and `lifelong status` shows it.
"""
