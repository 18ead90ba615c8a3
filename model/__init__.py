"""The one model family: config, blocks, head, loading, quantized weights."""
