"""The devices and the process that a run uses: sharding, compiler, processes, signals, caches."""
