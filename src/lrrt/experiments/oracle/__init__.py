"""Is a suggestion any good? Trainings over a grid of rates, and what each suggestion loses."""
