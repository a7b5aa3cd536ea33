"""Distillation: a student trained on a teacher's predictions, with evidence of who was a member."""
