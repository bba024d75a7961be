"""External layer of the ground truth: public trainings, and our range tests of their problems."""
