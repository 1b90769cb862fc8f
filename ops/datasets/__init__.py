"""Brings files and data sets into an encrypted bucket: found anywhere, checked, scanned, whole, and once."""
