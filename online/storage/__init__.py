"""Everything durable: journal, prediction log, metrics store, snapshots, with checksums and migrations."""
