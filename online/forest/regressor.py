"""The forest as a River estimator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from river import base

from online.forest import state
from online.forest.budget import keep_budget
from online.forest.members import learn_rows, predict_rows
from online.forest.random import scattered
from online.forest.state import NONE, Array, Arrays

__all__ = ["AdaptiveForestRegressor"]

MOST_FEATURES = 1024
NODE_PART = 0.15
OTHER = state.BINS - 1


class AdaptiveForestRegressor(base.Regressor):
    """Adaptive random forest in flat arrays."""

    def __init__(
        self,
        n_models: int = 30,
        subspace: float = 0.7,
        rate: float = 6.0,
        grace: float = 200.0,
        delta: float = 1e-3,
        tau: float = 0.05,
        max_depth: int = 20,
        step: float = 0.02,
        decay: float = 0.99,
        warning_delta: float = 1e-4,
        drift_delta: float = 1e-6,
        horizon: int = 5000,
        max_bytes: int = 24_000_000,
        seed: int = 1,
        power: float = 1.0,
        min_branch: float = 30.0,
        min_gain: float = 0.0,
        err_decay: float = 0.99,
    ) -> None:
        self.n_models = n_models
        self.subspace = subspace
        self.rate = rate
        self.grace = grace
        self.delta = delta
        self.tau = tau
        self.max_depth = max_depth
        self.step = step
        self.decay = decay
        self.warning_delta = warning_delta
        self.drift_delta = drift_delta
        self.horizon = horizon
        self.max_bytes = max_bytes
        self.seed = seed
        self.power = power
        self.min_branch = min_branch
        self.min_gain = min_gain
        self.err_decay = err_decay
        self._places: dict[str, int] = {}
        self._codes: dict[str, dict[str, int]] = {}
        self._arrays = self._start()
        self._one = np.empty((1, 1))
        self._out = np.empty(1)
        self._target = np.empty(1)
        self._weight = np.ones(1)

    def _start(self) -> Arrays:
        arrays = state.fresh_arrays(self.n_models, 1, 1)
        arrays.rng[:] = scattered(self.seed, self.n_models + 1)
        arrays.member_i[:, state.TREE] = 2 * np.arange(self.n_models)
        arrays.member_i[:, state.BACK] = NONE
        settings = {
            state.RATE: self.rate, state.GRACE: self.grace, state.DELTA: self.delta, state.TAU: self.tau,
            state.STEP: self.step, state.DECAY: self.decay, state.WARN_DELTA: self.warning_delta,
            state.DRIFT_DELTA: self.drift_delta, state.HORIZON: self.horizon, state.POWER: self.power,
            state.MAX_DEPTH: self.max_depth, state.MIN_GAIN: self.min_gain, state.ERR_DECAY: self.err_decay,
            state.MIN_BRANCH: self.min_branch, state.SHARE: self.subspace,
        }  # fmt: skip
        for place, value in settings.items():
            arrays.par[place] = value
        return arrays

    @classmethod
    def _unit_test_params(cls) -> Iterator[dict[str, Any]]:
        yield {"n_models": 3, "seed": 1}

    def _widen(self, names: list[str]) -> None:
        for name in names:
            if len(self._places) < MOST_FEATURES:
                self._places[name] = len(self._places)
        d = len(self._places)
        a = self._arrays
        width = max(1, math.ceil(self.subspace * d))
        def pad(x, shape):
            y = np.zeros(shape, x.dtype); y[tuple(slice(0,k) for k in x.shape)] = x; return y
        T = self.n_models
        w = max(width, a.subspace.shape[1])
        sub = np.full((2*T, w), NONE, np.int64); sub[:, :a.subspace.shape[1]] = a.subspace
        self._arrays = a._replace(
            feature=pad(a.feature, (d, a.feature.shape[1])), category=pad(a.category, (d, state.BINS, 2)),
            row=np.empty((2, d)), order=np.zeros(max(d, state.MAX_STACK), np.int64), subspace=sub, line=pad(a.line, (len(a.line), w)), bins=pad(a.bins, (len(a.bins), w, *a.bins.shape[2:])),
            span=pad(a.span, (len(a.span), w, 3)))
        slots = int(self.max_bytes*(1-NODE_PART)/state.slot_bytes(w))
        self._arrays.counts[state.MAX_SLOTS] = max(8*T+10, slots)
        self._arrays.counts[state.MAX_NODES] = max(16*T+10, int(self.max_bytes*NODE_PART/state.node_bytes(w)))
        self._one = np.full((1, d), np.nan)

    def _row(self, x):
        row = self._one
        row.fill(np.nan)
        places = self._places
        r = row[0]
        for name, value in x.items():
            r[places[name]] = value
        return row

    def _grow(self) -> None:
        a = self._arrays
        need = 4 * self.n_models + 2
        c = a.counts
        if min(c[state.MAX_NODES]-c[state.NODE_HIGH]+c[state.NODE_FREE], c[state.MAX_SLOTS]-c[state.SLOT_HIGH]+c[state.SLOT_FREE]) < need:
            keep_budget(a, need)
        cap = len(a.free_node)
        if c[state.NODE_FREE] + cap - c[state.NODE_HIGH] < need:
            size = min(int(c[state.MAX_NODES]), max(cap + cap // 2, int(c[state.NODE_HIGH]) + need))
            self._arrays = a = state.grown(a, state.NODE_POOL, size)
        cap = len(a.free_slot)
        if c[state.SLOT_FREE] + cap - c[state.SLOT_HIGH] < need:
            size = min(int(c[state.MAX_SLOTS]), max(cap + cap // 4, int(c[state.SLOT_HIGH]) + need))
            self._arrays = a = state.grown(a, state.SLOT_POOL, size)

    def learn_matrix(self, X, y):
        done = 0
        w = np.ones(len(X))
        while done < len(X):
            k = learn_rows(self._arrays, X[done:], y[done:], w[done:])
            done += k
            if done < len(X):
                self._grow()

    def learn_one(self, x, y, w=1.0) -> None:
        new = [n for n in x if n not in self._places]
        if new:
            self._widen(new)
        self.learn_matrix(self._row(x), np.array([float(y)]))

    def predict_one(self, x):
        predict_rows(self._arrays, self._row(x), self._out)
        return float(self._out[0])
