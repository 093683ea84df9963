"""Measure a container image of adapterkit-runtime without Docker, and let it answer.

    python -m release.image --wheel dist/adapterkit_runtime-0.1.0-py3-none-any.whl --export onnx --adapter NAME

Needs Debian 12 as root: the image's system is what distroless's python3-debian12 consists of, Debian's packages of
Python 3.11 and of the libraries that it links, unpacked without a shell, apt or dpkg. Prints each layer's bytes,
unpacked and as a gzip, and the answer to one text under chroot.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

PACKAGES = """
    base-files netbase tzdata ca-certificates media-types libc6 libgcc-s1 libstdc++6 libgomp1 libssl3 zlib1g libbz2-1.0
    liblzma5 libffi8 libsqlite3-0 libuuid1 libncursesw6 libtinfo6 libreadline8 libexpat1 libcrypt1 libdb5.3 libnsl2
    libtirpc3 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1 python3.11-minimal
    libpython3.11-minimal libpython3.11-stdlib
"""
NOBODY = "65534:65534"


def system(root: Path, downloads: Path) -> None:
    """Unpack Debian's packages into `root`."""
    downloads.mkdir()
    subprocess.run(
        ["apt-get", "-qq", "download", *PACKAGES.split()], cwd=downloads, check=True, stderr=subprocess.DEVNULL
    )
    for package in sorted(downloads.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    (root / "tmp").chmod(0o1777)


def sizes(folder: Path, paths: list[str]) -> tuple[int, int]:
    """Return the bytes of the paths' files, and those of their tar as a gzip."""
    files = [f for path in paths for f in (folder / path).rglob("*") if f.is_file() and not f.is_symlink()]
    unpacked = sum(f.stat().st_size for f in files)
    packer, packed = zlib.compressobj(6, wbits=31), 0
    with subprocess.Popen(["tar", "--create", *paths], cwd=folder, stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        for part in iter(lambda: tar.stdout.read(2**20), b""):
            packed += len(packer.compress(part))
    return unpacked, packed + len(packer.flush())


@contextlib.contextmanager
def devices(root: Path) -> Iterator[None]:
    """Give the image /proc, /dev/null and /dev/urandom, as a container's runtime does."""
    for name, minor in (("null", "3"), ("urandom", "9")):
        subprocess.run(["mknod", "-m", "666", root / "dev" / name, "c", "1", minor], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", root / "proc"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", required=True, help="a wheel of adapterkit-runtime")
    parser.add_argument("--export", required=True, type=Path, help="a folder of adapt export --format onnx")
    parser.add_argument("--adapter", required=True, help="one of its adapters")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        system(root, Path(folder, "packages"))
        layers = {"Debian's Python 3.11 and its libraries": sorted(p.name for p in root.iterdir())}
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", root / "app", args.wheel]
        subprocess.run(install, check=True)
        shutil.copytree(args.export, root / "onnx")
        layers |= {"adapterkit-runtime and what it requires": ["app"], f"the export {args.export.name}": ["onnx"]}
        total = [0, 0]
        for layer, paths in layers.items():
            figures = sizes(root, paths)
            total = [a + b for a, b in zip(total, figures, strict=True)]
            print(f"{layer}: {figures[0] / 1e6:.0f} MB, {figures[1] / 1e6:.0f} MB as a gzip")
        print(f"sum: {total[0] / 1e6:.0f} MB, {total[1] / 1e6:.0f} MB as a gzip", flush=True)
        command = ["/usr/bin/python3.11", "-m", "adapterkit.cli", "predict", args.adapter, "--export", "/onnx"]
        with devices(root):
            subprocess.run(
                ["chroot", f"--userspec={NOBODY}", root, *command, "I'd stay here again"],
                env={"PATH": "/usr/sbin:/usr/bin", "HOME": "/tmp", "PYTHONPATH": "/app", "LANG": "C.UTF-8"},
                check=True,
            )


if __name__ == "__main__":
    main()
