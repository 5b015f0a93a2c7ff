"""The digits 7 to 9 from ten labels each, with a body that has only seen 0 to 6; seconds.

It needs the run that it begins from:

    python -m train --config configs/digits_pretrain.py
    python -m train --config configs/digits_transfer_gc.py

The body learns at a tenth of the last layer's rate; --config.optimizer.body_lr_scale=0 freezes it, and
--config.init_from= --config.optimizer.body_lr_scale=1 is training from scratch, each in a --workdir of
its own.
`study_digits_transfer` compares them: expect no pretrained body to be shown to help over draws of
the labels, and a frozen one to be worse (docs/transfer.md).
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
