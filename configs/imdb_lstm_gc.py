"""An LSTM on the IMDB film reviews with gradient centralization: positive or negative.

    make data NAME=imdb_reviews/plain_text
    python -m train --config configs/imdb_lstm_gc.py

25,000 training reviews (Maas et al. 2011), of which the last 200 words are read. The model has
0.67 M parameters, most of them in the embedding, which GC does not change. The recipe is ours: two
epochs of Adam.

Expect a test_top1 of 0.860 with GC and 0.858 without (seed 0), after 130 seconds of processor time
in total. Without GC: `--config.gc.mode=none --workdir runs/imdb_none`.
"""

from train.config import default_config


def get_config():
    config = default_config()
    config.num_epochs = 2
    config.data.name = "imdb_reviews/plain_text"
    config.data.vocabulary = 10_000
    config.data.length = 200
    config.data.batch_size = 128
    config.model.name = "lstm"
    config.model.dropout = 0.3
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 2e-3
    config.schedule.name = "cosine"
    config.schedule.warmup = 0.05
    config.gc.mode = "all"
    return config
