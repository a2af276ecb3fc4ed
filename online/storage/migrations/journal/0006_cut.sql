-- The last record of which retention has left only id, kind, time and target.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'cut'

CREATE TABLE cut (stream TEXT PRIMARY KEY, upto INTEGER NOT NULL);
