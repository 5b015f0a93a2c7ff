"""Names of settings and arms in the text of a report."""

from ml_collections import ConfigDict

from train.studies.design import Setting


def setting_label(setting: Setting, study: ConfigDict) -> str:
    """Return the fields of a setting that the study varies: `adam, weight decay 0.1`."""
    parts = [setting.label]
    if len(study.weight_decays) > 1:
        parts.append(f"weight decay {setting.weight_decay:g}")
    if len(study.batch_sizes) > 1:
        parts.append(f"batch size {setting.batch_size}")
    return ", ".join(parts)


def gc_label(gc: str, study: ConfigDict) -> str:
    """Return `without GC` or `with GC`; the kind of GC is added if the study has several."""
    if gc == "none":
        return "without GC"
    kinds = [kind for kind in study.gc if kind != "none"]
    return "with GC" if len(kinds) == 1 else f"with GC {gc}"


def score_label(name: str) -> str:
    """Return a score as text: `box AP50` for `box_ap50`.

    >>> score_label("mask_ap_small")
    'mask AP small'
    """
    words = [f"AP{word[2:]}" if word.startswith("ap") else word for word in name.split("_")]
    return " ".join(words)
