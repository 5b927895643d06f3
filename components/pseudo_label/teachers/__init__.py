"""Teachers, one module or package per family, each with the `SPECS` of its teachers.

`components.pseudo_label.registry` finds them by importing every family, so what a teacher needs
beyond NumPy and OpenCV is imported by its `build`.
"""
