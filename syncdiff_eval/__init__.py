"""Scores for dubbed video: named protocols, intervals, failures counted, leaderboards."""
