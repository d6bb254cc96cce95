"""From talking-face video to Parquet shards of aligned face clips and audio features."""
