"""The files a report shows: leaderboard.md, leaderboard.csv and index.html, made from results.json and
per_clip.parquet."""
