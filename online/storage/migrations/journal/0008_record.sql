-- Each record in one piece: the JSON of what the other columns held, so that it is written once, and verified by
-- the checksum of its bytes. What SQL asks for stays in columns; those of records from before keep theirs.

ALTER TABLE journal ADD COLUMN record TEXT;
