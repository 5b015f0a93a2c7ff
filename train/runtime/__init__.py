"""The devices and processes that a run uses: sharding, compiler, signals, terminal, caches."""
