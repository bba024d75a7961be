"""Does the range suggested for one run hold for another? Trainings after the range tests."""
