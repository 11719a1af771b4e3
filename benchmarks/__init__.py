"""Speed, load and endurance of asyncruns, beside its peers; each command is in README.md."""
