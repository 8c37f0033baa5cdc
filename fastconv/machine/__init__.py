"""The machine: what its CPU can do, how many threads to use, and the BLAS that NumPy has loaded."""
