"""CIFAR-100 on ResNet-18 with Ranger: RAdam inside Lookahead, on centralized gradients.

Ranger's own settings (github.com/lessw2020/Ranger-Deep-Learning-Optimizer): b1 0.95, eps 1e-5, GC
of the gradient, decoupled decay, slow weights that go half of the way every 6 steps, rate 1e-3.
RAdam is Liu et al. 2020 (arXiv 1908.03265), Lookahead Zhang et al. 2019 (arXiv 1907.08610). All
else is `cifar100_gc`, except for the decay: a decoupled one is multiplied by the rate, so 0.05 at
1e-3 shrinks weights as 5e-4 does at 0.1. The authors of GC have Ranger in their second collection
of optimizers (github.com/Yonghongwei/Advanced-optimizer-with-Gradient-Centralization), and
recommend GC of the update for it: `--config.gc.location=update`.

Two details are optax's and not Ranger's: eps is added after the bias is corrected, and the weights
that are tested are the slow ones. For a GPU or a TPU; not yet trained to its end by us.
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
