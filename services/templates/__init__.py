"""What `lifelong new` copies: code of the user's own, which runs as it is.

encoder.py         a class that `encoder = "module:Class"` may name, for grey images
encoder_test.txt   its test
encoder.toml       the settings that name it
writing.py         copies them under the user's names
"""
