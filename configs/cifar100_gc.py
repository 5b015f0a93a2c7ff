"""ResNet-18 on CIFAR-100 with gradient centralization: the recipe of the authors of GC.

    python -m train --config configs/cifar100_gc.py
    python -m train --config configs/cifar100_gc.py:resnet50,adam

The argument selects a model, an optimizer or both, so that every cell of the paper's tables (Yong
et al. 2020, arXiv 2004.01461) can be trained:

  model      resnet18, resnet34, resnet50, resnet101, vgg11, resnext29 (4x64d), densenet121
  optimizer  sgdm, sgdw (decoupled weight decay), adam, adamw, adagrad

The recipe: batch size 128, 200 epochs, momentum 0.9, weight decay 5e-4, random crops with 4 pixels
of padding, flips. The learning rate is 0.1 (0.001 for Adam and AdamW, 0.01 for Adagrad), divided by
10 every 60 epochs. GC is applied to convolutions and to the classifier. The authors' published
script does not apply it to the classifier; `--config.gc.mode=conv` does the same.

For a GPU or a TPU: on two CPU cores one epoch of ResNet-18 takes about 20 minutes. `cifar100.py` is
the same without GC. We have not trained any of these configs to the end.
"""

from train.config import default_config, parse_config_argument

NETS = ("resnet18", "resnet34", "resnet50", "resnet101", "vgg11", "resnext29", "densenet121")
OPTIMIZERS = {  # name in the trainer, learning rate
    "sgdm": ("momentum", 0.1),
    "sgdw": ("sgdw", 0.1),
    "adam": ("adam", 0.001),
    "adamw": ("adamw", 0.001),
    "adagrad": ("adagrad", 0.01),
}


def get_config(argument=""):
    net, optimizer = parse_config_argument(argument, net=NETS, optimizer=OPTIMIZERS)
    config = default_config()
    config.num_epochs = 200
    config.data.name = "cifar100"
    config.data.batch_size = 128
    config.data.mean = (0.507, 0.487, 0.441)
    config.data.std = (0.267, 0.256, 0.276)
    config.data.pad = 4
    config.data.flip = True
    config.model.name = net
    config.optimizer.name, config.optimizer.learning_rate = OPTIMIZERS[optimizer]
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    # The eps of PyTorch: 1e-8, and 1e-10 for Adagrad. For Adagrad, optax adds eps inside the root,
    # so its square is used here.
    config.optimizer.eps = 1e-20 if optimizer == "adagrad" else 1e-8
    config.schedule.name = "step"
    config.schedule.step_epochs = 60.0
    config.schedule.step_factor = 0.1
    config.gc.mode = "all"
    return config
