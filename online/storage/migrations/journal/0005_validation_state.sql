-- What label validation has learned of the labels so far, a JSON object.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'watch'

CREATE TABLE watch (stream TEXT PRIMARY KEY, state TEXT NOT NULL);
