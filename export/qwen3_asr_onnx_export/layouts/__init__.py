"""The same model as other people's programs load it: one module a layout, made from the graphs and weights of a bundle.

A variant's products are in a layout's graphs as they are: nothing is quantized here. What differs is what is around the
layers: who looks embeddings up, who keeps the cache, who cuts audio into windows.
"""
