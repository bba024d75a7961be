"""What does the suggestion owe to smoothing, trim, stop rule and ramp?"""
