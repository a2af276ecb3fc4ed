"""Learning online how to combine the outputs of several experts, each way in a file of its own."""
