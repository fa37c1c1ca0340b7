"""Finds the guest-physical addresses of apps' files, and keeps the pages in place."""
