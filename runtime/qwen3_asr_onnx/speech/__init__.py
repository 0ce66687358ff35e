"""Where somebody speaks: quiet points, pauses, activity, and what a voice detector says."""
