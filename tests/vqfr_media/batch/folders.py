"""A folder as people have it: good files, odd files and bad ones."""

from pathlib import Path

from PIL import Image

import vqfr_media.demo.picture
from tests.clips import write_clip
from tests.scenes import write_scene

FAST = {"preset": "ultrafast"}
PHOTOGRAPH = next(Path(vqfr_media.demo.picture.__file__).parent.glob("*.jpg"))

# Every file of `write_folder`, in natural order, with what must become of it.
FATES = {
    "empty.jpg": ("failed", "empty.jpg", "empty (0 bytes)"),
    'it\'s a "quote".mp4': ("done", 'it\'s a "quote".mp4', ""),
    "no face.mp4": ("done", "no face.mp4", ""),
    "phone.mp4": ("done", "phone.mp4", ""),
    "photograph.jpg": ("done", "photograph.jpg", ""),
    "season 1/clip 2.mp4": ("done", "season 1/clip 2.mp4", ""),
    "season 1/clip 10.mp4": ("done", "season 1/clip 10.mp4", ""),
    "season 1/old.avi": ("done", "season 1/old.mkv", ""),
    "ten bit.mkv": ("done", "ten bit.mkv", ""),
    "text.mp4": ("failed", "text.mp4", "not a video"),
    "truncated.mp4": ("failed", "truncated.mp4", "truncated"),
    "祖母 Бабушка.png": ("done", "祖母 Бабушка.png", ""),
}


def write_folder(folder: Path) -> Path:
    """Writes the twelve files of `FATES`, and some that are neither videos nor images."""
    (folder / "season 1").mkdir(parents=True)
    write_clip(folder / "season 1/clip 2.mp4", codec="libx264", options=FAST, audio="aac")
    write_scene(folder / "season 1/clip 10.mp4", frames=6, codec="libx264", options=FAST)
    write_clip(folder / "season 1/old.avi", codec="mpeg4", frames=4)
    write_clip(folder / "phone.mp4", codec="libx264", options=FAST, rotation=-90)
    write_clip(folder / "ten bit.mkv", codec="ffv1", pix_fmt="yuv420p10le")
    write_scene(folder / "no face.mp4", frames=4, discs=0, codec="libx264", options=FAST)
    write_clip(folder / 'it\'s a "quote".mp4', codec="libx264", options=FAST, frames=3)
    whole = (folder / "no face.mp4").read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    (folder / "empty.jpg").write_bytes(b"")
    photograph = Image.open(PHOTOGRAPH)
    photograph.resize((256, 256 * photograph.height // photograph.width)).save(
        folder / "photograph.jpg"
    )
    Image.new("RGB", (48, 32), (90, 80, 70)).save(folder / "祖母 Бабушка.png")
    (folder / "notes.txt").write_text("of the season")
    (folder / "season 1/.hidden.mp4").write_bytes(b"made by a copying program")
    return folder
