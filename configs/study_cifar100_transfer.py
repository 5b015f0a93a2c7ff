"""Pretrained weights and GC on 20 classes of CIFAR-100 with ten labels each.

ResNet-20 is trained on the last 20 classes: from scratch, and from a body pretrained on the other
80 classes, which is frozen or slow (a tenth of the last layer's learning rate). Each is trained
with and without GC. The study needs the pretrained run and takes twelve minutes on two cores:

    python -m train --config configs/cifar100_pretrain.py
    python -m train.study --config configs/study_cifar100_transfer.py

Rates are chosen on 60 of the 200 labels. The test set is the 2,000 test images of these classes.
Measured: a pretrained body gains 14 to 16 points; GC makes no difference
(docs/studies/transfer.md). --config.base.data.train_draw=1, with another --workdir, draws other
labels.
"""

from configs import cifar100_resnet20_gc
from train.studies.config import default_study


def get_config():
    base = cifar100_resnet20_gc.get_config()
    base.num_epochs = 30
    base.data.classes = tuple(range(80, 100))
    base.data.train_per_class = 10
    base.data.batch_size = 20
    base.log_every_steps = 20
    source = "runs/cifar100_pretrain"
    config = default_study(base)
    config.variants = {
        "scratch": {"init_from": ""},
        "frozen": {"init_from": source, "optimizer": {"body_lr_scale": 0.0}},
        "slow": {"init_from": source, "optimizer": {"body_lr_scale": 0.1}},
    }
    config.baseline = "scratch"
    config.optimizers = ("momentum",)
    config.learning_rates.momentum = (0.01, 0.03, 0.1)
    config.tuning.validation_examples = 60
    config.target_loss = 1.0
    config.timing.pairs, config.timing.steps = 3, 20
    return config
