"""Student: backbone, memory-guided gated fusion, save and load, inference."""
