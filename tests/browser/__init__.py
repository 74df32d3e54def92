"""
A real browser at a real gateway, and between them a relay that is as slow as a network.

These tests need Chromium and are left out unless asked for: ``pytest -m browser``.
"""
