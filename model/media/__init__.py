"""The encoder of pictures, sounds and texts: stems that make tokens, and one trunk of transformer blocks for all.

tokens     a token of a part as one integer: modality, place, and the code of the stem
stem       convolutions on integers: grey pixels or log-mel energies -> codes
encoder    the config, the encoder in full precision, and the encoder as it is served
family     the family `media`: opens and writes the folder of an encoder

    pixels uint8 [28, 28]      --stem--> 16 codes --packed--> token ids ---.
    log-mel int16 [F, 40]      --stem--> 20 codes --packed--> token ids ---+--embedding--> x_TD --trunk, INT8--> z_BD
    text                       --hashed words----------------> token ids ---'

An event has any of the parts; a missing part has no tokens. The stems are trained once and then frozen. Replicas run
them, and the token ids are all that the learner needs, so an answer or a replay buffer holds no pictures and no sounds.
"""
