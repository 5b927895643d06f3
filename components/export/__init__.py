"""Stage `export`: safetensors and ONNX, which must agree."""
