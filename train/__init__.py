"""The trainer: image classification in Flax, with and without gradient centralization."""
