"""The page of evaluate: reports/evaluation.html."""
