-- The CRC-32 of a record; NULL in records of before there was one.
-- unless: SELECT 1 FROM pragma_table_info('journal') WHERE name = 'checksum'

ALTER TABLE journal ADD COLUMN checksum INTEGER;
