"""ResNet-18 on CIFAR-100 with Ranger (RAdam in Lookahead) and gradient centralization.

    python -m train --config configs/cifar100_ranger_gc.py

The settings are those of Ranger (github.com/lessw2020/Ranger-Deep-Learning-Optimizer): b1 0.95, eps
1e-5, GC of the gradient, decoupled weight decay, learning rate 1e-3, and slow weights that move
half of the way every 6 steps. RAdam is Liu et al. 2020 (arXiv 1908.03265), Lookahead is Zhang et
al. 2019 (arXiv 1907.08610).

Everything else is as in `cifar100_gc.py`, except weight decay: decoupled decay is multiplied by the
learning rate, so 0.05 at a rate of 1e-3 shrinks the weights as much as 5e-4 at a rate of 0.1. The
authors of GC include Ranger in their second collection of optimizers
(github.com/Yonghongwei/Advanced-optimizer-with-Gradient-Centralization) and recommend GC of the
update for it: `--config.gc.location=update`.

Two details differ from Ranger and follow optax: eps is added after the bias correction, and the
slow weights are evaluated. For a GPU or a TPU. We have not trained this config to the end.
"""

from configs import cifar100_gc


def get_config():
    config = cifar100_gc.get_config()
    config.optimizer.name = "ranger"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.weight_decay = 0.05
    config.optimizer.b1 = 0.95
    config.optimizer.eps = 1e-5
    config.optimizer.lookahead.period = 6
    config.optimizer.lookahead.step_size = 0.5
    return config
