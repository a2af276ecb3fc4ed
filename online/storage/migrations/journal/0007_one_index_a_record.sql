-- Labels and releases are found by the unique index, all others by this one: each insert writes to one of them.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'journal_other'

CREATE INDEX journal_other ON journal (stream, id, seq) WHERE kind NOT IN ('label', 'release');
DROP INDEX IF EXISTS journal_id;
