"""Compresses an encoder: changes its weights by arithmetic, then distils the original into the smaller encoder.

    reshape         more positions, a factorised token embedding, grouped keys and values (GQA)
    share           depth tying: layers share matrices, and each adds a low-rank matrix of its own
    heads           head pruning: measures the importance of heads on labelled texts, and removes the others
    sparsity        gradual pruning: most blocks of the feed-forward matrices become zero during a distillation
    spans           limited attention spans: measures on texts which keys a head needs, and when that is faster
    distillation    knowledge distillation from a teacher, on texts without labels
    contrastive     trains an encoder of pictures, sounds and texts from nothing, to be small from the start
    static          a table of vectors of tokens and pairs that imitates an encoder, on texts without labels
    pretrain        trains an encoder on texts without labels, by a mixture of objectives
    plain           the inverse: a plain encoder that computes the same, as published files and for other runtimes
    cost            counts parameters, bytes and operations of a config
    space           the encoders of a search: which layers share matrices, and how narrow, sparse and coarse they are
    supernet        one set of weights with every encoder of a space, trained by the sandwich rule
    latency         the time of an encoder on this machine, as the sum of the measured times of its layers
    search          NSGA-II, and a search at random; Kendall's tau, which says whether a proxy is good enough

    dense encoder --factorise, pool, share, prune--> smaller encoder --distillation--> as good as before

The results of these functions compute nearly the same as their inputs. The result is exact at full rank, and if the
removed heads had no effect. A short distillation recovers the rest. Every function returns a new encoder
(`model.strata.rebuilt`) and leaves its input as it is.
"""
