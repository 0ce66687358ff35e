"""What this machine is and can do, and processes that are measured on it."""
