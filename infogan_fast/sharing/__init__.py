"""What a run becomes for other people and programs: pages, exported networks, logs."""
