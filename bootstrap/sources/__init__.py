"""From a data or label endpoint to rows."""
