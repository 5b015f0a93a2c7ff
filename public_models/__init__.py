"""`infer_axes` on published models: `make public-models` writes docs/library/models.md."""
