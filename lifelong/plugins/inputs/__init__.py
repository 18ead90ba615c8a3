"""The inputs of events besides texts. Each has two halves: the codec, which loads no torch, and its tensors.

features, feature_tensors    numbers and categories by name
media, media_tensors         pictures and sounds, by the stems of the encoder
series                       features that an event takes from earlier events of its key
"""
