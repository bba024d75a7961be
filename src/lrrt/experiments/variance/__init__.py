"""How much of the spread do initial weights, batch order and augmentation each make?"""
