"""Engines: where the runs of a study are made.

`engine.py` is what they have in common, and `local.py` makes runs in this process. `cluster.py`
divides runs into tasks for other machines, where `worker.py` makes them with a local engine.
`ray_tasks.py` and `slurm_jobs.py` send the tasks.
"""
