"""The pretrained model that every adapter shares."""
