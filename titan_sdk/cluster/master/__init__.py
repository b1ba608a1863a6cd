"""The master between requests and processes: submissions, scheduling, runs, services and recovery."""
