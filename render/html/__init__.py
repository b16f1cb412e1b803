"""HTML that stands alone: the style sheet and the pieces that every page of the reports is made of."""
