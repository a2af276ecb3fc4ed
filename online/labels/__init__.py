"""A label from request to durable record, and which labels are wanted."""
