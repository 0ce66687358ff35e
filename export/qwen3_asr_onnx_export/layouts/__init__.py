"""The same model as other people's programs load it: one module a layout, made from the graphs and weights of a bundle.

Whatever a variant's products are made of, a layout's graphs have as they are: nothing is quantized here. What differs is
what is around the layers: who looks embeddings up, who keeps the cache, who cuts audio into windows.
"""
