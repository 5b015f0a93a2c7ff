"""Compare the streaming input pipeline with processes that only decode and crop images.

    python -m benchmarks.input [--rounds 5] [--json FILE]

Writes photo-like JPEGs with the sizes of ImageNet as an `imagenet2012`. Then measures in turn:

- the baseline: processes that decode and crop images which they hold in memory;
- the pipeline: random records are read from disk, decoded and cropped by the same number of threads
  or worker processes, and arrive as batches in the training process.

A ratio compares two rates of the same round; the median over the rounds is reported. Processor time
of all processes is reported too, because other load on the machine affects it less than wall time.
"""

import argparse
import importlib.metadata
import io
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from benchmarks.report import describe_machine, write_report
from tests.support import imagenet
from train.config import default_config
from train.data.streaming import crops, pipeline, tfds_records

IMAGE_SIZE, CROP_SCALE, BATCH_SIZE = 224, (0.08, 1.0), 64
PHOTO_SIZES = ((500, 375), (375, 500), (500, 333), (500, 400), (640, 480))
NUM_PHOTOS = 60  # the records repeat them
CORES = os.cpu_count() or 1

BASELINES = {"bare, 1 process": 1, f"bare, {CORES} processes": CORES}
PIPELINES = {  # number of workers, and the baseline
    f"{CORES} threads": (0, f"bare, {CORES} processes"),
    "1 worker": (1, "bare, 1 process"),
    f"{CORES} workers": (CORES, f"bare, {CORES} processes"),
}


class Rate(NamedTuple):
    """Images per second.

    Attributes:
      per_second: Per second of wall time.
      per_cpu_second: Per second of processor time of all processes that produce them.
    """

    per_second: float
    per_cpu_second: float


def random_photo(rng: np.random.Generator, width: int, height: int) -> bytes:
    """Return a JPEG with details at every scale and about the bytes per pixel of ImageNet."""
    pixels = np.full((height, width, 3), 128, np.float32)
    for cells in (4, 8, 16, 32, 64, 128, 256):
        noise = rng.normal(size=(cells * height // width, cells, 3)).astype(np.float32)
        channels = [
            np.asarray(Image.fromarray(noise[..., channel]).resize((width, height)))
            for channel in range(3)
        ]
        pixels += 100 / cells**0.35 * np.stack(channels, -1)
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "jpeg", quality=90)
    return content.getvalue()


def bare_rate(photos: list[bytes], seconds: float) -> Rate:
    """Return the rate of one process that only decodes and crops."""
    rng = np.random.default_rng(0)
    count, start, cpu_start = 0, time.monotonic(), time.process_time()
    while time.monotonic() - start < seconds:
        for photo in photos:
            crops.random_resized_crop(photo, rng, IMAGE_SIZE, CROP_SCALE)
        count += len(photos)
    return Rate(count / (time.monotonic() - start), count / (time.process_time() - cpu_start))


def pipeline_rate(config: ConfigDict, workers: int, seconds: float) -> Rate:
    """Return the rate of the batches that arrive in the training process."""
    config.data.workers = workers
    with pipeline.open_dataset(config, 0, 1).train_batches(0) as batches:
        for _ in range(4 * max(workers, CORES)):  # batches that were made ahead are not timed
            next(batches)
        count, start, cpu_start = 0, time.monotonic(), cpu_seconds()
        while time.monotonic() - start < seconds:
            for _ in range(max(workers, CORES)):
                count += len(next(batches).labels)
        return Rate(count / (time.monotonic() - start), count / (cpu_seconds() - cpu_start))


def cpu_seconds() -> float:
    """Return the processor time of this process and of its living children."""
    ticks = 0
    for process in ("self", *(child.pid for child in multiprocessing.active_children())):
        fields = (
            Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        )
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def milliseconds_per_image(config: ConfigDict, photos: list[bytes]) -> dict[str, float]:
    """Return the time of each part of the work, measured alone."""
    records = tfds_records.open_splits(config.data)[0]
    ids = np.random.default_rng(0).integers(len(records), size=200)
    images = [Image.open(io.BytesIO(photo)) for photo in photos]

    def read() -> None:
        for index in ids:
            records[int(index)]

    def decode() -> None:
        for image in images:
            image.load()

    def crop_and_resize() -> None:
        rng = np.random.default_rng(0)
        for image in images:
            box = crops.random_box(rng, *image.size, CROP_SCALE)
            image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR, box)

    def measure_one(work: Callable[[], None], num_images: int) -> float:
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start) / num_images

    return {
        "read": measure_one(read, len(ids)),
        "decode": measure_one(decode, len(images)),
        "crop_and_resize": measure_one(crop_and_resize, len(images)),
    }


def measure(
    config: ConfigDict, photos: list[bytes], rounds: int, seconds: float
) -> dict[str, list[Rate]]:
    """Return the rates of each baseline and pipeline, one per round."""
    rates: dict[str, list[Rate]] = {name: [] for name in (*BASELINES, *PIPELINES)}
    for round_index in range(rounds):
        for name, count in BASELINES.items():
            with multiprocessing.get_context("spawn").Pool(count) as pool:
                each = pool.starmap(bare_rate, [(photos, seconds)] * count, chunksize=1)
            wall, cpu = zip(*each, strict=True)
            rates[name].append(Rate(sum(wall), statistics.mean(cpu)))
        for name, (workers, _) in PIPELINES.items():
            rates[name].append(pipeline_rate(config, workers, seconds))
        line = ", ".join(f"{name} {values[-1].per_second:.0f}" for name, values in rates.items())
        print(f"round {round_index + 1}: {line}", flush=True)
    return rates


def median_ratios(rates: dict[str, list[Rate]], timer: str) -> dict[str, float]:
    """Return the ratio of each pipeline to its baseline, by a field of `Rate`."""
    return {
        name: statistics.median(
            getattr(rate, timer) / getattr(bare, timer)
            for rate, bare in zip(rates[name], rates[baseline], strict=True)
        )
        for name, (_, baseline) in PIPELINES.items()
    }


def print_table(
    rates: dict[str, list[Rate]], ratios: dict[str, float], cpu_ratios: dict[str, float]
) -> None:
    """Print the median rates, and the ratios of the pipelines."""
    print(f"{'':<18} images/s  images/CPU s  ratio  by CPU time  baseline")
    for name, values in rates.items():
        per_second, per_cpu_second = (
            statistics.median(column) for column in zip(*values, strict=True)
        )
        comparison = ""
        if name in PIPELINES:
            comparison = f"{ratios[name]:>5.3f}  {cpu_ratios[name]:>11.3f}  {PIPELINES[name][1]}"
        print(f"{name:<18} {per_second:>8.0f}  {per_cpu_second:>12.0f}  {comparison}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of each measurement")
    parser.add_argument("--json", type=Path, default=Path("results/input_cpu.json"))
    flags = parser.parse_args()
    rng = np.random.default_rng(0)
    photos = [
        random_photo(rng, *PHOTO_SIZES[index % len(PHOTO_SIZES)]) for index in range(NUM_PHOTOS)
    ]
    config = default_config()
    config.data.update(
        name="imagenet2012", mean=(0.5,) * 3, std=(0.25,) * 3, flip=True, batch_size=BATCH_SIZE
    )
    config.data.update(image_size=IMAGE_SIZE, crop_scale=CROP_SCALE)
    with tempfile.TemporaryDirectory() as folder:
        config.data.dir = folder
        train = [(photos[index % NUM_PHOTOS], index) for index in range(imagenet.NUM_CLASSES)]
        imagenet.write(folder, train=train, validation=train[:1])
        milliseconds = milliseconds_per_image(config, photos)
        rates = measure(config, photos, flags.rounds, flags.seconds)
    ratios = median_ratios(rates, "per_second")
    cpu_ratios = median_ratios(rates, "per_cpu_second")
    print_table(rates, ratios, cpu_ratios)
    parts = ", ".join(f"{name} {value:.3f}" for name, value in milliseconds.items())
    print(f"milliseconds per image: {parts}")
    report = describe_machine()
    for package in ("grain", "pillow", "tensorflow-datasets"):
        report["versions"][package] = importlib.metadata.version(package)
    report |= {
        "kilobytes_per_image": statistics.mean(map(len, photos)) / 1000,
        "image_size": IMAGE_SIZE,
        "batch_size": BATCH_SIZE,
        "milliseconds_per_image": milliseconds,
        "rates": {name: [rate._asdict() for rate in values] for name, values in rates.items()},
        "median_ratios": ratios,
        "median_cpu_ratios": cpu_ratios,
    }
    write_report(flags.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
