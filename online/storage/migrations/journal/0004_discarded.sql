-- Whether a label that was set aside is closed for good.
-- unless: SELECT 1 FROM pragma_table_info('quarantine') WHERE name = 'discarded'

ALTER TABLE quarantine ADD COLUMN discarded INTEGER;
