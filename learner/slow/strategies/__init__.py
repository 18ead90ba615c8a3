"""How one gradient step learns new samples and does not forget replayed ones: a class for each method of the papers.

`strategy` defines what a strategy is, and learns naively; `er`, `er_ace`, `derpp`, `agem` and `lwf` are the methods;
`in_rounds` makes the one that the settings name. The evaluations use the same classes on small networks.
"""
