"""A raw row becomes numbers: encoding, context features from label history, segments, error scale."""
