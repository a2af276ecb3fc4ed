"""From a file to rows: columns, kinds, duplicates, schema, split."""
