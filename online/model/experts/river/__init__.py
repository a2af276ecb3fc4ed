"""River's own trees under ADWIN, the option ``experts.trees``. Nothing here is imported unless it is on."""
