"""`Model.__call__` in C. A Python function would cost 0.16 of the 7 microseconds of a LeNet; this costs 0.04."""


cdef class Call:
    """What calls `_run`, a Program's, and for what that does not take `_run_any`, which the subclass has."""
    cdef public object _run

    def __call__(self, x):
        """Return the network's raw outputs.

        Parameters
        ----------
        x : (N, C, H, W) or (C, H, W)
            Of any real dtype and any strides, used as it is: nothing is scaled. C-contiguous
            float32 is not copied.

        Returns
        -------
        ndarray, float32, or a tuple of them
            One per output of the network; with a batch axis if ``x`` has one. Always fresh.

        Raises
        ------
        fastconv.ShapeError
            ``x`` does not have the model's `input_shape`.
        fastconv.errors.DTypeError
            ``x`` does not hold real numbers.
        """
        outputs = self._run(x)
        if outputs is NotImplemented:       # all but the usual batch: C-contiguous and of the model's dtype
            return self._run_any(x)
        return outputs
