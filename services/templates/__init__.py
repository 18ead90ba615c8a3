"""The files that `lifelong new` copies: a template for the user's own code, which runs unchanged.

encoder.py         a class that `encoder = "module:Class"` may name, for grey images
encoder_test.txt   its test
encoder.toml       the settings that name it
writing.py         copies them under the user's names
"""
