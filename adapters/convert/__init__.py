"""Adapters to and from other formats: merged models, PEFT, compressed encodings."""
