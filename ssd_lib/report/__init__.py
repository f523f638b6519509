"""Pages of a report: their elements, and how these become HTML or Markdown. The stages validate and evaluate share them."""
