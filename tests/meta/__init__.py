"""Tests of the source itself: who may import whom, how large things may grow, and whether the docs keep up."""
