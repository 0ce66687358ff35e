"""The network: features, encoder, embeddings, decoder and its batches, on onnxruntime."""

from .loading import Model, load_model, load_session, open_variant

__all__ = ["Model", "load_model", "load_session", "open_variant"]
