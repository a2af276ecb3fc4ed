"""Learning online how to combine the outputs of several experts, one way a file."""
