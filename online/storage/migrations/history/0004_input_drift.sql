-- Drift by subject over time, which the drift watcher writes.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'input_drift'

CREATE TABLE input_drift (row INTEGER PRIMARY KEY, at REAL NOT NULL, scores TEXT NOT NULL);
