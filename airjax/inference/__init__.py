"""What trained programs find in images: reading, results, scores, figures."""
