"""Drift: of the inputs, of the predictions and of the error, and the alarms and marks that come of it."""
