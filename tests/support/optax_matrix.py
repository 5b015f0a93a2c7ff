"""The transformations of optax that are tested with `centralize()`, and their documentation page.

After a change of the tables, write the page again with

    python -m tests.support.optax_matrix > docs/library/optimizers.md
"""

import pathlib

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "library" / "optimizers.md"

# The source that builds each transformation. `lr` is a learning rate.
OPTIMIZERS = {
    "adabelief": "optax.adabelief(lr)",
    "adadelta": "optax.adadelta(100 * lr)",
    "adafactor": "optax.adafactor(lr, min_dim_size_to_factor=2)",
    "adagrad": "optax.adagrad(lr)",
    "adam": "optax.adam(lr)",
    "adamax": "optax.adamax(lr)",
    "adamaxw": "optax.adamaxw(lr)",
    "adamw": "optax.adamw(lr)",
    "adan": "optax.adan(lr)",
    "amsgrad": "optax.amsgrad(lr)",
    "fromage": "optax.fromage(lr)",
    "lamb": "optax.lamb(lr)",
    "lars": "optax.lars(100 * lr)",
    "lbfgs": "optax.lbfgs(lr, linesearch=None)",
    "lion": "optax.lion(lr)",
    "nadam": "optax.nadam(lr)",
    "nadamw": "optax.nadamw(lr)",
    "noisy_sgd": "optax.noisy_sgd(lr, eta=1e-4, key=0)",
    "novograd": "optax.novograd(lr)",
    "optimistic_adam_v2": "optax.optimistic_adam_v2(lr)",
    "optimistic_gradient_descent": "optax.optimistic_gradient_descent(lr)",
    "polyak_sgd": "optax.polyak_sgd(lr)",
    "radam": "optax.radam(lr)",
    "rmsprop": "optax.rmsprop(lr, momentum=0.5)",
    "rprop": "optax.rprop(lr)",
    "sgd": "optax.sgd(lr, momentum=0.9)",
    "sign_sgd": "optax.sign_sgd(lr)",
    "signum": "optax.signum(lr)",
    "sm3": "optax.sm3(lr)",
    "yogi": "optax.yogi(lr)",
    "acprop": "contrib.acprop(lr)",
    "ademamix": "contrib.ademamix(lr)",
    "adopt": "contrib.adopt(lr)",
    "cocob": "contrib.cocob()",
    "dadapt_adamw": "contrib.dadapt_adamw(50 * lr)",
    "dog": "contrib.dog(50 * lr)",
    "dowg": "contrib.dowg(50 * lr)",
    "galore": "contrib.galore(lr, rank=2)",
    "madgrad": "contrib.madgrad(lr)",
    "momo": "contrib.momo(lr)",
    "momo_adam": "contrib.momo_adam(lr)",
    "muon": "contrib.muon(lr)",
    "prodigy": "contrib.prodigy(50 * lr)",
    "schedule_free_adamw": "contrib.schedule_free_adamw(0.01)",
    "schedule_free_sgd": "contrib.schedule_free_sgd(0.01)",
    "simplified_ademamix": "contrib.simplified_ademamix(0.1 * lr)",
}

CHAIN_PARTS = {
    "adaptive_grad_clip": "optax.adaptive_grad_clip(0.1), optax.sgd(lr)",
    "add_decayed_weights": "optax.add_decayed_weights(1e-3), optax.sgd(lr)",
    "add_noise": "optax.add_noise(1e-4, 0.55, key=0), optax.sgd(lr)",
    "apply_every": "optax.sgd(lr), optax.apply_every(2)",
    "chain": "optax.chain(optax.sgd(lr))",
    "clip": "optax.clip(0.1), optax.sgd(lr)",
    "clip_by_block_rms": "optax.clip_by_block_rms(0.1), optax.sgd(lr)",
    "clip_by_global_norm": "optax.clip_by_global_norm(0.1), optax.sgd(lr)",
    "ema": "optax.ema(0.9), optax.sgd(lr)",
    "freeze": "optax.freeze({'kernel': False, 'bias': True}), optax.sgd(lr)",
    "identity": "optax.identity(), optax.sgd(lr)",
    "keep_params_nonnegative": "optax.sgd(lr), optax.keep_params_nonnegative()",
    "named_chain": "optax.named_chain(('sgd', optax.sgd(lr)))",
    "normalize": "contrib.normalize(), optax.sgd(lr)",
    "normalize_by_update_norm": "optax.normalize_by_update_norm(), optax.sgd(lr)",
    "scale": "optax.scale(-lr)",
    "scale_by_acprop": "contrib.scale_by_acprop(), optax.scale(-lr)",
    "scale_by_adadelta": "optax.scale_by_adadelta(), optax.scale(-100 * lr)",
    "scale_by_adam": "optax.scale_by_adam(), optax.scale(-lr)",
    "scale_by_adamax": "optax.scale_by_adamax(), optax.scale(-lr)",
    "scale_by_adan": "optax.scale_by_adan(), optax.scale(-lr)",
    "scale_by_ademamix": "contrib.scale_by_ademamix(), optax.scale(-lr)",
    "scale_by_adopt": "contrib.scale_by_adopt(), optax.scale(-lr)",
    "scale_by_amsgrad": "optax.scale_by_amsgrad(), optax.scale(-lr)",
    "scale_by_belief": "optax.scale_by_belief(), optax.scale(-lr)",
    "scale_by_cocob": "contrib.scale_by_cocob()",
    "scale_by_distance_over_gradients": (
        "optax.scale_by_distance_over_gradients(), optax.scale(-100 * lr)"
    ),
    "scale_by_factored_rms": "optax.scale_by_factored_rms(), optax.scale(-lr)",
    "scale_by_galore": "contrib.scale_by_galore(rank=2), optax.scale(-lr)",
    "scale_by_lbfgs": "optax.scale_by_lbfgs(), optax.scale(-lr)",
    "scale_by_learning_rate": "optax.scale_by_learning_rate(lr)",
    "scale_by_lion": "optax.scale_by_lion(), optax.scale(-lr)",
    "scale_by_madgrad": "contrib.scale_by_madgrad(lr)",
    "scale_by_muon": (
        "optax.masked(contrib.scale_by_muon(weight_dimension_numbers="
        "{'kernel': contrib.MuonDimensionNumbers(), 'bias': optax.MaskedNode()}), kernel), "
        "optax.scale(-lr)"
    ),
    "scale_by_novograd": "optax.scale_by_novograd(), optax.scale(-lr)",
    "scale_by_optimistic_gradient": "optax.scale_by_optimistic_gradient(), optax.scale(-lr)",
    "scale_by_param_block_norm": "optax.scale_by_param_block_norm(), optax.scale(-lr)",
    "scale_by_param_block_rms": "optax.scale_by_param_block_rms(), optax.scale(-lr)",
    "scale_by_polyak": "optax.scale(-1.0), optax.scale_by_polyak()",
    "scale_by_radam": "optax.scale_by_radam(), optax.scale(-lr)",
    "scale_by_rms": "optax.scale_by_rms(), optax.scale(-lr)",
    "scale_by_rprop": "optax.scale_by_rprop(lr), optax.scale(-1.0)",
    "scale_by_rss": "optax.scale_by_rss(), optax.scale(-lr)",
    "scale_by_schedule": "optax.scale_by_schedule(lambda count: -lr / (1 + count))",
    "scale_by_sign": "optax.scale_by_sign(), optax.scale(-lr)",
    "scale_by_simplified_ademamix": (
        "contrib.scale_by_simplified_ademamix(), optax.scale(-0.1 * lr)"
    ),
    "scale_by_sm3": "optax.scale_by_sm3(), optax.scale(-lr)",
    "scale_by_stddev": "optax.scale_by_stddev(), optax.scale(-lr)",
    "scale_by_trust_ratio": "optax.scale_by_trust_ratio(), optax.scale(-lr)",
    "scale_by_yogi": "optax.scale_by_yogi(), optax.scale(-lr)",
    "snapshot": "optax.snapshot('norm', optax.tree.norm), optax.sgd(lr)",
    "stateless": "optax.stateless(lambda updates, params: updates), optax.sgd(lr)",
    "stateless_with_tree_map": "optax.stateless_with_tree_map(lambda g, p: g), optax.sgd(lr)",
    "trace": "optax.trace(0.5), optax.sgd(lr)",
    "with_extra_args_support": "optax.with_extra_args_support(optax.sgd(lr))",
    "zero_nans": "optax.zero_nans(), optax.sgd(lr)",
    "reduce_on_plateau": "optax.sgd(lr), contrib.reduce_on_plateau(patience=2)",
}

_ALWAYS = "lambda step, **extra: step >= 0"
INNER_WRAPPERS = {
    "conditionally_mask": f"optax.conditionally_mask(optax.sgd(lr), {_ALWAYS})",
    "conditionally_transform": f"optax.conditionally_transform(optax.sgd(lr), {_ALWAYS})",
    "flatten": "optax.flatten(optax.adam(lr))",
    "selective_transform": (
        "optax.selective_transform(optax.sgd(lr), freeze_mask={'kernel': False, 'bias': True})"
    ),
    "mechanize": "contrib.mechanize(optax.sgd(lr), weight_decay=0.0)",
    "sam": "contrib.sam(optax.sgd(lr), optax.sgd(0.01))",
    "schedule_free": "contrib.schedule_free(optax.sgd(lr), lr)",
    "split_real_and_imaginary": "contrib.split_real_and_imaginary(optax.adam(lr))",
}

# Wrappers around every optimizer. `tx` is `centralize()` followed by the optimizer.
OUTER_WRAPPERS = {
    "MultiSteps": "optax.MultiSteps(tx, every_k_schedule=2)",
    "masked": "optax.chain(optax.masked(tx, kernel), optax.masked(optax.set_to_zero(), bias))",
    "partition": "optax.partition({'a': tx, 'b': optax.sgd(lr)}, {'kernel': 'a', 'bias': 'b'})",
    "apply_if_finite": "optax.apply_if_finite(tx, max_consecutive_errors=3)",
    "inject_hyperparams": "optax.inject_hyperparams(lambda learning_rate: make(learning_rate))(lr)",
    "lookahead": "optax.lookahead(tx, sync_period=4, slow_step_size=0.5)",
}
ALIASES = {"multi_transform": "partition"}

NOT_TESTED = {
    "centralize": "optax's own transformation, which averages over other axes",
    "optimistic_adam": "deprecated in favor of `optimistic_adam_v2`",
    "inject_stateful_hyperparams": "deprecated name of `inject_hyperparams`",
    "monitor": "its state changes its structure at the first update, also without `centralize()`",
    "measure_with_ema": "a part of `monitor`",
    "set_to_zero": "does not train; it is used in the row `masked` above",
    "scale_by_backtracking_linesearch": (
        "evaluates the loss again, and assumes that the update is the gradient of the loss"
    ),
    "scale_by_zoom_linesearch": (
        "evaluates the loss and its gradient again, without centralization"
    ),
    "sophia": "estimates the Hessian from the loss, without centralization",
    "hutchinson_estimator_diag_hessian": "a part of `sophia`",
    "differentially_private_aggregate": (
        "needs one gradient per example and clips each: put `centralize()` after it"
    ),
    "dpsgd": "starts with `differentially_private_aggregate`",
}

# Functions without a return annotation that are not gradient transformations.
OTHER_FUNCTIONS = {
    "matrix_inverse_pth_root",
    "schedule_free_eval_params",
    "sigmoid_binary_cross_entropy",
    "update_infinity_moment",
    "update_moment",
    "update_moment_per_elem_norm",
}

TRAINED = OPTIMIZERS | CHAIN_PARTS | INNER_WRAPPERS
NEEDS_VALUE = {"polyak_sgd", "scale_by_polyak", "momo", "momo_adam", "reduce_on_plateau"}
PROMOTES_RANKS = {"scale_by_distance_over_gradients"}  # forbidden in conftest.py


def render_page():
    """Return the text of `PAGE`."""

    def table(header, rows):
        return "\n".join([f"| {header} |", "|---|---|", *rows])

    def sources(entries):
        return [f"| `{name}` | `{source}` |" for name, source in sorted(entries.items())]

    return _TEMPLATE.format(
        optimizers=table("name | tested after `centralize()`", sources(OPTIMIZERS)),
        outer_wrappers=table("wrapper | tested as", sources(OUTER_WRAPPERS)),
        parts=table("name | tested after `centralize()`", sources(CHAIN_PARTS)),
        inner_wrappers=table("name | tested after `centralize()`", sources(INNER_WRAPPERS)),
        not_tested=table(
            "name | reason",
            [f"| `{name}` | {reason} |" for name, reason in sorted(NOT_TESTED.items())],
        ),
        needs_value=", ".join(f"`{name}`" for name in sorted(NEEDS_VALUE)),
    )


_TEMPLATE = """\
# Centralization with the optimizers of optax

`centralize()` is a gradient transformation, so it can be chained with the transformations of optax.
The tests train each combination on this page on a small problem: the loss must decrease, and the
state must keep its structure and dtypes. This page is generated by `tests/support/optax_matrix.py`.
A test fails if optax has a transformation that is not in one of the tables.

Some optimizers normalize or project their input (Lion, GaLore, sign descent). As with Adam, their
update does not have a fan-in mean of zero. To centralize the update itself, put `centralize()`
after the optimizer and before the learning rate. The update of Muon keeps a fan-in mean of zero if
it has the [dimension numbers](guide.md#muon-and-other-optimizers) of the inferred axes.

## Optimizers

Each optimizer is tested alone and in every wrapper of the next table.

{optimizers}

These need the loss, `tx.update(grads, state, params, value=loss)`: {needs_value}. They are not
tested in `lookahead`, which does not pass this argument on.

## Wrappers around `centralize()` and an optimizer

`tx` is `centralize()` followed by an optimizer. `kernel` and `bias` are masks that select one of
the two leaves. `make` builds `tx` from a learning rate. `multi_transform` is the old name of
`partition`.

{outer_wrappers}

## Parts of a chain

{parts}

## Wrappers after `centralize()`

{inner_wrappers}

## Not tested

{not_tested}
"""


if __name__ == "__main__":
    print(render_page(), end="")
