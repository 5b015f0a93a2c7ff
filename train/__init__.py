"""The trainer: classification and detection in Flax, with and without gradient centralization.

To understand a run, read these files in this order:

    loop.py               a run: evaluate, train, save, report
    engine/step.py        one training step: augment, differentiate, update
    tasks/task.py         what a run learns: its examples, loss and metrics
    engine/optimizers.py  the optimizer chain, and where GC stands in it
    engine/resident.py    many steps in one program, on a data set stored on the devices
    experiment.py         everything a run needs, built from its config
    config/schema.py      every field of a config; those of the optimizer are in optimization.py

Each package imports only from those above it:

    errors.py     the exceptions that commands print as one line
    config/       fields, defaults, checks, config files
    runtime/      devices, compilation, processes, signals, caches
    data/         data sets: in_memory/ (stored on the devices) and streaming/ (read by the host);
                  detection/ (images with boxes and masks)
    models/       networks as pure functions; one file for each family
    tasks/        what a run learns: classification, detection
    engine/       plan, state, step, optimizer, executors
    output/       work folder, metrics, progress, curves, summary
    checkpoints/  saving, restoring, pretrained weights
    experiment.py, loop.py, trained.py
    studies/      many runs with and without GC, and their report

The commands are `__main__.py` (train), `study.py` and `aot.py`, which share `cli.py`; and
`evaluate.py`, `predict.py` and `export.py`, which share `trained_command.py`.
"""
