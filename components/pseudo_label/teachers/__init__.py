"""Teachers, one module per family, behind one registry."""
