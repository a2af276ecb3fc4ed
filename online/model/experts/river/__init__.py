"""River's own trees under ADWIN: the option experts.trees."""
