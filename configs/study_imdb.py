"""Does GC help on texts? An LSTM and a transformer on the IMDB film reviews, five seeds: 40 runs.

    make data NAME=imdb_reviews/plain_text
    python -m train.study --config configs/study_imdb.py

The training is that of configs/imdb_lstm_gc.py and configs/imdb_transformer_gc.py: two epochs of
Adam. The rate of each arm is chosen on 5,000 of the training reviews. An hour or two on two cores.
"""

from configs import imdb_lstm_gc
from train.studies.config import default_study


def get_config():
    base = imdb_lstm_gc.get_config()
    base.eval.every_epochs = 2  # only at the end
    base.log_every_steps = 10
    config = default_study(base)
    config.optimizers = ("adam",)
    config.variants = {"lstm": {}, "transformer": {"model": {"name": "transformer"}}}
    config.seeds = (0, 1, 2, 3, 4)
    config.learning_rates.adam = (0.0005, 0.001, 0.002, 0.004, 0.008)
    config.tuning.validation_examples = 5000
    config.target_loss = 0.4
    config.timing.pairs, config.timing.steps = 5, 10
    return config
