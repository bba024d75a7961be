"""Does the loss turn where the steps outgrow what the curvature allows?"""
