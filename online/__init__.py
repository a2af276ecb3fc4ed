"""The learning core, a room for each thing it knows; it knows no web, dashboard or metrics library."""
