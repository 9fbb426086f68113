"""The form of each operation, and of its gradients, that the compiler likes. Which of them a platform takes layers.py
says; each choice has its figure beside it. Maps are (b, f, t, c).
"""
