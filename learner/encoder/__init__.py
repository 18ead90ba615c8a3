"""The encoder in its served (quantized) form, and the base encoder under the blocks that slow rounds train.

served      quantizes trained weights and runs them as replicas do; caches vectors and activations
base        the frozen base encoder, from the settings or adopted; copying and loading the trained blocks on top of it
rounded     quantizes the base encoder, and caches the result in a file
"""
