"""Does it help? The same training with and without GC, compared with statistics."""
