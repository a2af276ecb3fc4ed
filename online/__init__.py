"""The learning core: schema, journal, pipeline, plan, learner. It knows no web, dashboard or metrics."""
