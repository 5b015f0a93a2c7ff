"""CIFAR-100 with gradient centralization: the recipe of the paper's authors, on any of their nets.

`cifar100_gc.py` is ResNet-18 with momentum. `cifar100_gc.py:NET`, `:OPTIMIZER` or `:NET,OPTIMIZER`
are the other cells of the paper's tables, `cifar100_gc.py:resnet50,adam` for one:

  NET        resnet18, resnet34, resnet50, resnet101, vgg11, resnext29 (4x64d), densenet121
  OPTIMIZER  sgdm, sgdw (decay decoupled), adam, adamw, adagrad

Batch 128, 200 epochs, momentum 0.9, decay 5e-4, rate 0.1 (0.001 for Adam and AdamW, 0.01 for
Adagrad) divided by 10 every 60 epochs, crops from 4 pixels of padding, flips. GC is of convolutions
and classifier; the authors' published script leaves the classifier out, as `--config.gc.mode=conv`
does. For a GPU or a TPU: on two CPU cores one epoch of ResNet-18 takes about 20 minutes.

None has been trained to its end by us yet; `cifar100.py` is the same without GC.
"""

from train.config import default_config, parse_config_argument

NETS = ("resnet18", "resnet34", "resnet50", "resnet101", "vgg11", "resnext29", "densenet121")
OPTIMIZERS = {  # the trainer's name, the rate
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
    # PyTorch's 1e-8, and of Adagrad 1e-10, which stands in the root here and outside of it there.
    config.optimizer.eps = 1e-20 if optimizer == "adagrad" else 1e-8
    config.schedule.name = "step"
    config.schedule.step_epochs = 60.0
    config.schedule.step_factor = 0.1
    config.gc.mode = "all"
    return config
