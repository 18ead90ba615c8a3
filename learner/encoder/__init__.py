"""The encoder: the form in which it is served, and the blocks of it that slow rounds train.

served      quantizes trained weights, and runs them; knows the vectors and activations that need not be made again
base        the encoder that trained blocks stand on: that of the settings, or one that was adopted; these blocks: a
            copy of their own, their weights, and what lies below them
rounded     the cache of the rounded base encoder
"""
