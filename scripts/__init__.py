"""What users run: ask for labels, go back to a version, play a stream, a whole challenge."""
