"""The student: backbone, memory-guided gated fusion, save and load, inference, ONNX."""
