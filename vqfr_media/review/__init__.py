"""Looking at faces and at what became of them: previews, comparisons and a report."""
