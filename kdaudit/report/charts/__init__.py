"""Pictures of a report: SVG drawn with matplotlib, and one in characters."""
