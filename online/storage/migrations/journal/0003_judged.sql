-- How many labels had been judged when one was set aside.
-- unless: SELECT 1 FROM pragma_table_info('quarantine') WHERE name = 'judged'

ALTER TABLE quarantine ADD COLUMN judged INTEGER;
