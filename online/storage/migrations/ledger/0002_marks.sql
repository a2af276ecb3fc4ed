-- The index by features, kept up when a label asks for it: with every commit it would take most of the time.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'marked'

DROP INDEX IF EXISTS prediction_fingerprint;
-- WITHOUT ROWID: the index is the table
CREATE TABLE mark (
    fingerprint INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (fingerprint, row)
) WITHOUT ROWID;
-- one row: the numbers from and up to which predictions are in the index
CREATE TABLE marked (one INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
INSERT INTO marked VALUES (1, 0, 0);
