"""Studies: the same training with and without GC, compared with statistics."""
