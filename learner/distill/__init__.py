"""Distillation: an encoder learns from texts without labels to compute what another one, the teacher, computes.

texts --teacher--> x_TD of every layer, z_BD
      --student--> x_TD of every layer, z_BD --distiller: how far apart--> AdamW

distiller     the loss, and the steps
checkpoint    the file from which a killed distillation goes on
"""
