"""The subcommands of millrace."""
