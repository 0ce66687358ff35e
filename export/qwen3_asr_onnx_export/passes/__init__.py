"""Graph passes of our own, one per file; what onnx_ir ships is used from there."""
