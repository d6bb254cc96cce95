"""The files a report shows: leaderboard.md, .csv and .tex, and index.html, made from results.json and
per_clip.parquet."""
