"""The only writer of models: learner, fold, guard, refresh, replay, progressive validation."""
