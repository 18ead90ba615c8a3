"""The encoder family `module`: the user's torch module as the encoder.

module_code       the protocol of the user's class, its import and its checks, and the config of a version
module_encoder    the module as it reads texts, is trained and is served, and the family
"""
