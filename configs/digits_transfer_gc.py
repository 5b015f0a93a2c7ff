"""Transfer to the digits 7 to 9 with ten labels per class, from weights trained on 0 to 6.

    python -m train --config configs/digits_pretrain.py
    python -m train --config configs/digits_transfer_gc.py

The second command needs the work folder of the first one, and takes seconds. The body (all layers
but the last) has a tenth of the last layer's learning rate. Variants, each in its own --workdir:

  --config.optimizer.body_lr_scale=0                          freeze the body
  --config.init_from= --config.optimizer.body_lr_scale=1      train from scratch

`study_digits_transfer.py` compares them. Expect that no pretrained body is shown to help over
several draws of the labels, and that a frozen body is worse (docs/studies/transfer.md).
"""

from configs import digits_gc


def get_config():
    config = digits_gc.get_config()
    config.init_from = "runs/digits_pretrain"
    config.num_epochs = 60
    config.data.classes = (7, 8, 9)
    config.data.train_per_class = 10
    config.data.batch_size = 10
    config.optimizer.learning_rate = 0.03
    config.optimizer.body_lr_scale = 0.1
    config.eval.every_epochs = 20
    return config
