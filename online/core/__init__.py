"""What every other room may know: errors, home, schema, config, compilation, threads, garbage collection."""
