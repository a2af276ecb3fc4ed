"""The one place where the settings of the adaptive tree live, with the measurements behind them."""

from __future__ import annotations

from river import drift, tree

from online.model.experts.nlms import NormalizedLMS

__all__ = ["adaptive_tree"]

_MAX_DEPTH = 10
_QUANTUM = 0.25  # of a standard deviation: features are expected to be standardised
_NEVER = 2**62


def adaptive_tree(seed: int, *, watched: bool = True) -> tree.HoeffdingAdaptiveTreeRegressor:
    """Return an untaught Hoeffding adaptive tree with linear leaves, for standardised features.

    Parameters
    ----------
    seed
        Seed of the tree.
    watched
        Whether the branches watch for drift themselves. As River 0.26.1 replaces the subtree of a branch that
        reports drift at the alternate's first split, a watched tree stays small and forgets fast. That suits
        the members of a bagging. Not watched, it is a plain Hoeffding tree, which keeps what it learned.

    Returns
    -------
    HoeffdingAdaptiveTreeRegressor
        River's own, with linear leaves.

    Examples
    --------
    >>> import random
    >>> from online.model.experts.river.adaptive_tree import adaptive_tree
    >>> rng = random.Random(7)
    >>> model = adaptive_tree(seed=7)
    >>> for _ in range(2000):
    ...     x = {"a": rng.uniform(-1.5, 1.5)}
    ...     model.learn_one(x, abs(x["a"]))
    >>> model.n_leaves > 1
    True
    """
    # Mean absolute error over the target's deviation, three hourly streams, labels 24 rows late.
    return tree.HoeffdingAdaptiveTreeRegressor(
        # Bounds the tree together with the splitter; 10 or 6 made no difference to a watched tree.
        max_depth=_MAX_DEPTH,
        # Against River's linear model as leaf: .882 to .955 and .542 to .693.
        leaf_model=NormalizedLMS(),
        # Against the default TEBST: half the time (150 to 290 us a row) and no more error (.882 to .908).
        splitter=tree.splitter.QOSplitter(_QUANTUM),
        # The bagging draws weights already; without a second draw .557 to .519, .542 to .534, .882 to .882.
        bootstrap_sampling=False,
        drift_detector=None if watched else drift.NoDrift(),
        # The size estimate differs between a live and an unpickled tree, so a replay would not be exact.
        memory_estimate_period=_NEVER,
        seed=seed,
    )
