-- Alarms, one row an event; the body is a JSON object.
-- unless: SELECT 1 FROM sqlite_master WHERE name = 'event'

CREATE TABLE event (
    key TEXT PRIMARY KEY, at REAL NOT NULL, told INTEGER NOT NULL DEFAULT 0, body TEXT NOT NULL
);
CREATE INDEX event_at ON event (at);
