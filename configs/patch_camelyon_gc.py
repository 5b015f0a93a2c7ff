"""PatchCamelyon with gradient centralization: metastatic tissue in lymph nodes, ResNet-18.

262,144 images of 96x96 pixels to train on and 32,768 to test, half of them with tumor tissue in
the 32x32 pixels in the middle: Veeling et al. 2018 (arXiv 1806.03962). Class 1 is tumor. Decoded,
the training split is 7.2 GB, which every device keeps whole: for a GPU, or a TPU chip, with more
memory than that. `--config.data.image_size=96 --config.data.pad=0` streams random crops instead.

The recipe is ours: momentum, batch 256, flips, crops from 4 pixels of padding, 10 epochs, the rate
risen to and then lowered along a cosine. The summary has precision, recall and AUC of each class.
Not yet trained to its end by us.

    tfds build patch_camelyon --file_format=array_record
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
