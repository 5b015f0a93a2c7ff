r"""Adversarial training on handwritten digits with gradient centralization.

    python -m train --config configs/digits_pgd_gc.py

The method of Madry et al. 2018 (arXiv 1706.06083) on a small data set. Training uses images under 7
steps of projected gradient descent (PGD) from a random start, which change each pixel in 0..1 by at
most 0.1. The test split is evaluated without an attack and under 20 PGD steps. Everything else is
as in `digits_gc.py`, with 20 epochs.

Expect a test_robust_top1 of 0.85 and a test_top1 of 0.986 after 40 seconds of one CPU core. The
same network trained without attacks reaches 0.25 and 0.992:

    python -m train --config configs/digits_pgd_gc.py --config.adversary.train=none \
      --workdir runs/digits_plain

Each result is of one run, on 360 test images.
"""

from configs import digits_gc


def get_config():
    config = digits_gc.get_config()
    config.num_epochs = 20
    config.adversary.train = "pgd"
    config.adversary.eval_steps = 20
    config.adversary.epsilon = 0.1
    config.adversary.step_size = 0.025
    config.adversary.steps = 7
    return config
