"""The report of validate: reports/validation.html and .md."""
