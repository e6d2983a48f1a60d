"""Measures of generated clips: pure functions of tensors, none of them learned here."""
