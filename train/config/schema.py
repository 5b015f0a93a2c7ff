"""The fields of a config."""

_RESUMABLE = ("data.dir", "data.workers", "steps_per_dispatch", "report.tensorboard")


def may_change_on_resume(name: str) -> bool:
    """Return whether a field may differ from that of the run that is resumed."""
    return name in _RESUMABLE
