"""One small main per stage of dvc.yaml: parameters in, domain call, files out."""
