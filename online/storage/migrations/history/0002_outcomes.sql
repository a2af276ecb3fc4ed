-- Served predictions with their labels, and what charts of long histories read: bins of them, and expert weights.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'scored'

CREATE TABLE scored (
    seq INTEGER PRIMARY KEY, received_at REAL NOT NULL, truth REAL NOT NULL, prediction REAL NOT NULL,
    lower REAL NOT NULL, upper REAL NOT NULL, baseline REAL, delay_seconds REAL NOT NULL,
    known_seq INTEGER NOT NULL DEFAULT 0, key INTEGER NOT NULL DEFAULT -1, slot INTEGER NOT NULL DEFAULT -1,
    naive REAL
);
CREATE INDEX scored_slot ON scored (key, slot, seq);
CREATE TABLE bin (
    bin INTEGER PRIMARY KEY, seq INTEGER NOT NULL, n INTEGER NOT NULL, received_at REAL NOT NULL,
    truth REAL NOT NULL, prediction REAL NOT NULL, lower REAL NOT NULL, upper REAL NOT NULL,
    error REAL NOT NULL, baseline_error REAL, naive_error REAL, covered REAL NOT NULL,
    delay_seconds REAL NOT NULL
);
CREATE TABLE weight (bin INTEGER PRIMARY KEY, seq INTEGER NOT NULL, weights TEXT NOT NULL);
