"""Tests of engine.obtaining."""
