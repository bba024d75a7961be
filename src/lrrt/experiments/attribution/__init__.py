"""Which factor moves the suggested range, by how much?"""
