-- The records, and the labels set aside.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'journal'

-- AUTOINCREMENT: a seq is never given twice, so a record that is deleted at the end is missed
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, received_at REAL NOT NULL,
    kind TEXT NOT NULL, features TEXT, context TEXT, experts BLOB, prediction REAL, lower REAL, upper REAL,
    served_at REAL, plan_seq INTEGER, target REAL, payload TEXT
);
-- a label is accepted once, whatever process accepts it
CREATE UNIQUE INDEX journal_label ON journal (stream, id) WHERE kind IN ('label', 'release');
CREATE TABLE quarantine (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, id TEXT NOT NULL, received_at REAL NOT NULL,
    reason TEXT NOT NULL, target REAL NOT NULL, record TEXT NOT NULL, released_as INTEGER
);
CREATE INDEX quarantine_id ON quarantine (stream, id, target);
