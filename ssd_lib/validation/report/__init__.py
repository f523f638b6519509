"""What validate found, as something to look at: reports/validation.md and .html."""
