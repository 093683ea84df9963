"""Images as a base's input: what ViT, DINOv2 and others read as pixel_values."""

from __future__ import annotations

import functools
import hashlib
import io
from typing import Any, ClassVar

from adapterkit.base.modality import Modality


class Pixels(Modality):
    """Encoded images, such as PNG or JPEG; the preprocessor is an image processor of transformers.

    Features hold the encoded bytes, so equal images are computed once, and nothing is stored in full size.
    """

    name: ClassVar[str] = "pixel_values"
    columns: ClassVar[tuple[str, ...]] = ("image",)
    preprocessor_text: ClassVar[str] = "the image processor"

    @classmethod
    def load(cls, path: str, **options: Any) -> Any:
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(path, **options)

    def digest(self) -> str:
        return hashlib.sha256(self.preprocessor.to_json_string().encode()).hexdigest()

    def items(self, feature: Any) -> tuple[bytes, ...]:
        return (feature["image"],)

    def length(self, item: bytes) -> int:
        return self._patches

    def shapes(self, features: Any) -> list[tuple[int, int]]:
        return [(1, self._patches)] * len(features)

    def shortened(self, feature: Any) -> dict[str, Any]:
        return {**feature, "image": b""}

    @functools.cached_property
    def _patches(self) -> int:
        """The hidden states of an image: one for each patch, for the class token, and for each register."""
        height, width = self.processed([_blank()]).shape[-2:]
        patch = self.config.patch_size
        rows, columns = (patch, patch) if isinstance(patch, int) else patch
        return (height // rows) * (width // columns) + 1 + getattr(self.config, "num_register_tokens", 0)

    def processed(self, items: Any) -> Any:
        """Return pixels, (images, channels, height, width), as the base's own processor has them."""
        import torch

        if not any(items):  # `shortened`
            return torch.zeros(len(items), self.config.num_channels, 1, 1)
        return self.preprocessor(images=[decoded(item) for item in items], return_tensors="pt")["pixel_values"]

    def tensors(self, items: Any, device: Any) -> dict[str, Any]:
        return {"pixel_values": self.processed(items).to(device)}

    def example(self, rows: int, device: Any) -> dict[str, Any]:
        import torch

        shape = self.processed([_blank()]).shape[1:]
        return {"pixel_values": torch.linspace(-1, 1, rows * shape.numel(), device=device).view(rows, *shape)}

    def mask(self, inputs: Any) -> Any:
        import torch

        pixels = inputs["pixel_values"]
        return torch.ones(len(pixels), self._patches, dtype=torch.bool, device=pixels.device)


def decoded(data: bytes) -> Any:
    """Return an image in RGB. Raises `ValueError` where the bytes are none, or it is too large to decode safely."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"no image that can be read ({type(error).__name__})") from error


def _blank() -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (32, 32)).save(data, "PNG")
    return data.getvalue()
