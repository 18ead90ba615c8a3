"""What `lifelong model ...` does: makes other members of the family from an encoder, and says what they cost.

show       the shape of an encoder, its stored parameters, bytes and operations
"""
