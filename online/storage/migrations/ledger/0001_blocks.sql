-- Predictions in blocks; those of earlier layouts are let go, their labels learn from their own features.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'block'

DROP TABLE IF EXISTS ledger;
DROP TABLE IF EXISTS served;
CREATE TABLE block (
    last INTEGER PRIMARY KEY, stream TEXT NOT NULL, served_at REAL NOT NULL, record BLOB NOT NULL
);
CREATE TABLE prediction (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL, fingerprint INTEGER NOT NULL, block INTEGER NOT NULL
);
CREATE UNIQUE INDEX prediction_id ON prediction (id);
