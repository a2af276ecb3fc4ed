-- The last words of each process about itself.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'status'

CREATE TABLE status (key TEXT PRIMARY KEY, value TEXT NOT NULL);
