"""Image classification for adapterkit."""
