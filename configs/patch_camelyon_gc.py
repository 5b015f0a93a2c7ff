"""ResNet-18 on PatchCamelyon with gradient centralization: metastases in lymph nodes.

    make data NAME=patch_camelyon
    python -m train --config configs/patch_camelyon_gc.py

262,144 training images and 32,768 test images of 96x96 pixels (Veeling et al. 2018, arXiv
1806.03962). Half of them have tumor tissue in the 32x32 pixels in the center: class 1.

The decoded training split has 7.2 GB, and each device stores all of it, so this is for a GPU or a
TPU chip with more memory. To stream random crops instead:
`--config.data.image_size=96 --config.data.pad=0`.

The recipe is ours: momentum, batch size 256, 10 epochs, random crops with 4 pixels of padding,
flips, warm-up and a cosine schedule. The summary contains precision, recall and AUC of each class.
We have not trained this config to the end.
"""

from configs import colorectal_histology_gc


def get_config():
    config = colorectal_histology_gc.get_config()
    config.num_epochs = 10
    config.data.name = "patch_camelyon"
    config.data.test_share = 0.0
    config.data.batch_size = 256
    config.data.pad = 4
    config.optimizer.learning_rate = 0.1
    config.eval.every_epochs = 1
    return config
