"""Recordings of other instruments and programs, as trace files with `source: imported`.

Each format has a module that reads it into a `Recording`; `roles` says which channel is what and turns readings into
codes, `runs` cuts the measured loops out and writes the file.
"""
