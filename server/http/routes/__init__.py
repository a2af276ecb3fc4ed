"""One module a group of routes; handlers only decode, delegate and reply."""
