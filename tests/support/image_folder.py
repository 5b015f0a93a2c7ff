"""A small folder of images of two classes, and a config that streams it."""

from PIL import Image

from train.config import default_config

CLASSES = ("ant", "bee")
IMAGES_PER_CLASS = 3


def write(root):
    """Write ROOT/{train,test}/CLASS/*.png: images of two colors."""
    for split in ("train", "test"):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(IMAGES_PER_CLASS):
                image = Image.new("RGB", (30, 20), (100 * label, 10 * index, 0))
                image.save(folder / f"{index}.png")


def make_config(root):
    """Return a config with crops of 8 pixels, 6 images in a batch and 4 in a test batch."""
    config = default_config()
    config.data.update(name="folder", dir=str(root), image_size=8, batch_size=6)
    config.data.update(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    config.eval.batch_size = 4
    return config
