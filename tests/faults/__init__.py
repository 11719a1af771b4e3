"""The client against servers that break: a test for each row of the fault matrix, named by its number."""
