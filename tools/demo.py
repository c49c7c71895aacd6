"""Compiles a text recogniser, renders a line of text, reads it back and says how long a run takes."""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
from PIL import Image, ImageDraw, ImageFont

TEXT = "Schedules are values, not edits."
HEIGHT = 48  # what the recogniser was trained on; the width is free


def render(text: str) -> Image.Image:
    font = ImageFont.truetype("DejaVuSans.ttf", 34)
    width = int(font.getlength(text)) + 24
    image = Image.new("RGB", (width, HEIGHT), "white")
    ImageDraw.Draw(image).text((12, 3), text, fill="black", font=font)
    return image


def as_input(image: Image.Image) -> numpy.ndarray:
    pixels = numpy.asarray(image, dtype=numpy.float32)[:, :, ::-1]  # the model wants blue first
    return numpy.ascontiguousarray(((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None])


def characters(model: onnx.ModelProto) -> list[str]:
    listed = next(p.value for p in model.metadata_props if p.key == "character").splitlines()
    return ["", *listed, " "]  # class 0 is the blank of connectionist temporal classification


def decode(scores: numpy.ndarray, alphabet: list[str]) -> str:
    best = scores.argmax(axis=-1)
    kept = [c for i, c in enumerate(best) if c != 0 and (i == 0 or c != best[i - 1])]
    return "".join(alphabet[c] for c in kept).strip()


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[1]
    heddle = os.environ.get("HEDDLE", str(root / "build/release/bin/heddle"))
    # The package itself wants OpenCV; only its models are needed here.
    folder = pathlib.Path(importlib.util.find_spec("rapidocr_onnxruntime").origin).parent / "models"
    path = folder / "ch_PP-OCRv4_rec_infer.onnx"
    model = onnx.load(path)
    image = render(TEXT)
    tensor = as_input(image)
    name = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        package = scratch / "recogniser"
        print(f"compiling {path.name} for images {HEIGHT} pixels high and of any width")
        subprocess.run([heddle, "compile", path, "-o", package, "--dim", f"{name}:0=1", "--dim", f"{name}:2={HEIGHT}",
                        "--dim", f"{name}:3=32:2048"], check=True)
        numpy.save(scratch / "x.npy", tensor)
        subprocess.run([heddle, "run", package, "--input", f"{name}={scratch / 'x.npy'}", "--output", scratch],
                       check=True, stdout=subprocess.DEVNULL)
        scores = numpy.load(scratch / (model.graph.output[0].name.replace("/", "_") + ".npy"))
        read = decode(scores[0], characters(model))
        bench = json.loads(subprocess.run([heddle, "bench", package, "--input", f"{name}={scratch / 'x.npy'}", "--seconds",
                                           "1", "--json"], stdout=subprocess.PIPE, text=True).stdout)
    print(f"image    {image.width}x{image.height} pixels, rendered: {TEXT}")
    print(f"read     {read}")
    print(f"one run  {bench['median_ms']:.2f} ms on {bench['threads']} threads, "
          f"{100 * bench['share_of_peak']:.0f} % of the {bench['peak_gflops']:.0f} GFLOP/s measured here")
    if read != TEXT:
        print("the text was misread", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
