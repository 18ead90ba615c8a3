"""The encoder in its served (quantized) form, and the base encoder under the blocks that slow rounds train.

served      quantizes trained weights and runs them as replicas do; caches vectors and activations
base        the base encoder under the trained blocks, from the settings or adopted; copying and loading these blocks
rounded     the cache of the quantized base encoder
"""
