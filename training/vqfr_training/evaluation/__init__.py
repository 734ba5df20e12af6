"""Figures of restored faces and videos."""
