"""The kernels, in Cython: one source, compiled once per instruction-set level (setup.py)."""
