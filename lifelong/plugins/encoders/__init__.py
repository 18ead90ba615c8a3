"""The family of encoders that are torch modules of the user.

module_code       the class, how it is imported and checked, and its config
module_encoder    the module at work: what reads texts for it, trained, served, and the family
"""
