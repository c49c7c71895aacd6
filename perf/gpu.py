#!/usr/bin/env python3
"""Devices: builds, checks and times kernels and models on every device of a machine, and writes perf/results/gpu-<device>.

usage: gpu.py pack [--kit build/gpu-kit]       here: gathers the built program and what it needs, for a bare machine
       gpu.py run [--kit build/gpu-kit] [...]  there (or here): checks and times, writes the results

A bare machine needs python3 with numpy and onnx, a linker (GNU ld or lld) and a driver. The kit brings the rest: the
Vulkan and OpenCL loaders and what they load, as Debian packages, are unpacked where they are missing (as root).
`--peers` times the same models with torch on the device, if torch is there: CUDA graphs and torch.compile, f32 without
TF32.
"""
import argparse
import json
import lzma
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

from measuring import RESULTS, ROOT, SHAPES, processor, read_shapes, write_results

APIS = ["opencl", "vulkan"]
LOADERS = ["ocl-icd-libopencl1", "libvulkan1", "libegl1", "libglvnd0", "libopengl0", "libgl1", "libglx0", "libgles2", "libx11-6",
           "libxext6", "libxcb1", "libxau6", "libxdmcp6", "libbsd0", "libmd0"]
# Present wherever the program can start at all.
BASE_LIBRARIES = re.compile(r"^(linux-vdso|ld-linux|libc\.|libm\.|libdl\.|librt\.|libpthread\.|libstdc|libgcc_s|libcrypto|libHalide)")
MODELS = ["resnet50", "mobilenet_v2", "efficientnet_b0", "bert_base_s128", "gpt2_s64"]


def say(text):
    print(text, flush=True)


# --- Packing ----------------------------------------------------------------------------------------------------------


def libraries_of(path):
    listed = subprocess.run(["ldd", path], check=True, capture_output=True, text=True).stdout
    found = {}
    for line in listed.splitlines():
        parts = line.split()
        if "=>" in parts and len(parts) > 2 and not BASE_LIBRARIES.match(parts[0]):
            found[parts[0]] = parts[2]
    return found


def pack(arguments):
    kit, release = arguments.kit, ROOT / "build/release"
    for name in ("debs", "models"):
        (kit / name).mkdir(parents=True, exist_ok=True)
    programs = [release / "bin" / name for name in ("heddle", "test_gpu", "perf_launch") if (release / "bin" / name).exists()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        shutil.copytree(release / "lib/heddle", folder / "lib/heddle")
        (folder / "bin").mkdir()
        for program in programs:
            subprocess.run(["strip", "-o", folder / "bin" / program.name, program], check=True)
            for name, path in libraries_of(program).items():
                subprocess.run(["strip", "-o", folder / "lib" / name, path], check=True)
        with tarfile.open(kit / "programs.tar.xz", "w:xz") as archive:
            archive.add(folder, ".")
    packed = kit / "libHalide.so.xz"
    if not packed.exists():
        say("packing libHalide.so (a minute)")
        library = next((ROOT / ".venv").glob("lib/python3*/site-packages/halide/lib64/libHalide.so"))
        packed.write_bytes(lzma.compress(library.read_bytes(), preset=6))
    if not any((kit / "debs").iterdir()):
        subprocess.run(["apt-get", "download", "-q", *LOADERS], check=True, cwd=kit / "debs")
    models = pathlib.Path(os.environ.get("HEDDLE_MODELS", ROOT.parent / "shared/models"))
    for name in [*(f"{model}.onnx" for model in MODELS), "fill.py"]:
        shutil.copy(models / name, kit / "models" / name)
    size = sum(f.stat().st_size for f in kit.rglob("*") if f.is_file())
    say(f"{kit}: {size / 2**20:.0f} MiB")


# --- Running ----------------------------------------------------------------------------------------------------------


def unpack_loaders(kit):
    """Loaders and a vendor file where a bare machine has a driver and nothing else."""
    if shutil.which("dpkg") and os.geteuid() == 0 and "libvulkan.so.1" not in subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout:
        for package in sorted((kit / "debs").glob("*.deb")):
            subprocess.run(["dpkg", "-x", package, "/"], check=True)
        subprocess.run(["ldconfig"], check=True)
    nvidia = "libnvidia-opencl.so.1" in subprocess.run(["ldconfig", "-p"], capture_output=True, text=True).stdout
    vendors = pathlib.Path("/etc/OpenCL/vendors")
    if nvidia and os.geteuid() == 0 and not list(vendors.glob("nvidia*")):
        vendors.mkdir(parents=True, exist_ok=True)
        (vendors / "nvidia.icd").write_text("libnvidia-opencl.so.1\n")
    if not os.environ.get("VK_DRIVER_FILES"):
        for folder in ("/usr/local/nvidia", "/usr/share", "/etc"):
            found = next(pathlib.Path(folder).rglob("nvidia_icd.json"), None) if pathlib.Path(folder).exists() else None
            if found:
                os.environ["VK_DRIVER_FILES"] = str(found)
                break


class Kit:
    def __init__(self, path, scratch):
        self.path, self.scratch = path, scratch
        unpack_loaders(path)
        with tarfile.open(path / "programs.tar.xz") as archive:
            archive.extractall(scratch)
        libraries = scratch / "lib"
        (libraries / "libHalide.so").write_bytes(lzma.decompress((path / "libHalide.so.xz").read_bytes()))
        self.environment = dict(os.environ, LD_LIBRARY_PATH=f"{libraries}:{os.environ.get('LD_LIBRARY_PATH', '')}",
                                HEDDLE_CACHE=str(scratch / "cache"), HEDDLE_SHIMS=str(libraries / "heddle"))
        if not shutil.which("ld.lld-19"):
            linker = shutil.which("ld.lld") or shutil.which("ld")
            if linker:
                self.environment["HEDDLE_LLD"] = linker

    def run(self, *words, timeout=300, program="heddle"):
        start = time.perf_counter()
        try:
            done = subprocess.run([self.scratch / "bin" / program, *map(str, words)], env=self.environment, capture_output=True, text=True, timeout=timeout)
            code, out, err = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, out, err = 124, "", f"stopped after {timeout} s"
        return code, out, err, time.perf_counter() - start

    def json(self, *words, timeout=300):
        code, out, err, _ = self.run(*words, "--json", timeout=timeout)
        if code != 0 or not out.strip():
            how = f"died of signal {-code}" if code < 0 else f"exit status {code}"
            return {"error": f"{how}: {(err or out).strip()[-600:]}"}
        return json.loads(out)


def fill_models(kit, names):
    filled = {}
    for name in names:
        target = kit.scratch / f"{name}.onnx"
        subprocess.run([sys.executable, kit.path / "models/fill.py", kit.path / "models" / f"{name}.onnx", target], check=True)
        filled[name] = target
    return filled


def measure_kernels(kit, api, device, chosen, seconds):
    rows = []
    for kernel in chosen:
        words = ["bench", kernel.op, "--shape", kernel.shape, "--target", api, "--seconds", str(seconds)]
        if kernel.attributes:
            words += ["--attribute", kernel.attributes]
        if device:
            words += ["--device", device]
        row = kit.json(*words, timeout=60)
        row.update({"op": kernel.op, "shape": kernel.shape, "count": kernel.count, "api": api})
        rows.append(row)
        result = row["error"].splitlines()[0][:90] if "error" in row else f"{row['median_ms'] * 1e3:9.1f} us {row['gflops']:9.0f} GF/s {row['bandwidth_gbs']:7.0f} GB/s"
        say(f"{api} {kernel.op} {kernel.shape}: {result}")
    return rows


def measure_models(kit, api, device, filled, seconds):
    rows = []
    for name, path in filled.items():
        package = kit.scratch / f"{name}-{api}"
        code, _, err, compiled = kit.run("compile", path, "-o", package, "--target", f"cpu,{api}", timeout=240)
        row = {"model": name, "api": api, "compile_s": compiled}
        if code == 0:
            select = ["--target", api, *(["--device", device] if device else [])]
            row.update(kit.json("bench", package, *select, "--seconds", str(seconds), timeout=120))
            row["difference"] = compare(kit, package, select)
        else:
            row["error"] = err.strip()[-600:]
        rows.append(row)
        result = row["error"].splitlines()[0][:120] if "error" in row else f"{row['median_ms']:.3f} ms, off by {row['difference']}"
        say(f"{api} {name}: {result}")
    return rows


def random_inputs(package):
    """Fixed-shape inputs of a package's main function, by name."""
    import numpy

    main = json.loads((package / "manifest.json").read_text())["modules"][0]["functions"][0]
    random = numpy.random.default_rng(1)
    inputs = {}
    for value in (main["values"][i] for i in main["inputs"]):
        integer = value["dtype"].startswith(("i", "u"))
        kind = {"f32": "float32", "f64": "float64", "f16": "float16", "i64": "int64", "i32": "int32", "u8": "uint8", "i8": "int8"}[value["dtype"]]
        drawn = random.integers(0, 2, value["shape"]) if integer else random.uniform(-1, 1, value["shape"])
        inputs[value["name"]] = drawn.astype(kind)
    return inputs


def compare(kit, package, select):
    """The largest difference from the same package on the processor, relative to the largest output."""
    import numpy

    numpy.savez(kit.scratch / "inputs.npz", **random_inputs(package))
    folders = [kit.scratch / "on-device", kit.scratch / "on-processor"]
    for folder, words in zip(folders, (select, ["--target", "cpu"])):
        shutil.rmtree(folder, ignore_errors=True)
        code, _, err, _ = kit.run("run", package, "--input", kit.scratch / "inputs.npz", "--output", folder, *words, timeout=120)
        if code != 0:
            return err.strip()[-200:]
    worst = 0.0
    for file in folders[0].glob("*.npy"):
        got, want = numpy.load(file).astype("float64"), numpy.load(folders[1] / file.name).astype("float64")
        if not numpy.isfinite(got).all():
            return "not finite"
        worst = max(worst, float(abs(got - want).max() / max(abs(want).max(), 1e-30)))
    return worst


def measure_launches(kit):
    """Rows of {device, how, us}: 100 recorded kernels, of which each waits for the one before (chain) or none does (apart), a
    kernel; and the host's time for submitting all of them (submit)."""
    if not (kit.scratch / "bin/perf_launch").exists():
        return []
    code, out, err, _ = kit.run("--benchmark_format=json", program="perf_launch", timeout=120)
    if code != 0 or not out.strip():
        say(f"perf_launch: exit status {code}: {err.strip()[-300:]}")
        return []
    rows = []
    for result in json.loads(out)["benchmarks"]:
        # "vulkan NAME (DRIVER) chain/min_time:0.020/manual_time"
        device, _, how = result["name"].split("/min_time")[0].rpartition(" ")
        row = {"device": device, "how": how}
        if result.get("error_occurred"):
            row["error"] = result["error_message"]
        else:
            row["us"] = result["real_time"]
        rows.append(row)
        say(f"{device} {how}: {row.get('us', row.get('error'))}")
    return rows


def launch_table(rows):
    lines = ["| 100 recorded kernels on | us a kernel, dependent | us a kernel, independent | us of the host for all |", "|---|---|---|---|"]
    for device in dict.fromkeys(row["device"] for row in rows):
        cells = {row["how"]: f"{row['us']:.2f}" if "us" in row else row["error"].splitlines()[0][:60] for row in rows if row["device"] == device}
        lines.append(f"| {device} | {cells.get('chain', '')} | {cells.get('apart', '')} | {cells.get('submit', '')} |")
    return [*lines, ""]


def measure_peers():
    """torch on the same device in the same run: medians in ms, f32 without TF32."""
    try:
        import torch
    except ImportError:
        return {}
    if not torch.cuda.is_available():
        return {}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)

    def models():
        import timm
        from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

        image = torch.rand(1, 3, 224, 224, device="cuda")
        yield "resnet50", timm.create_model("resnet50"), (image,)
        yield "mobilenet_v2", timm.create_model("mobilenetv2_100"), (image,)
        yield "efficientnet_b0", timm.create_model("efficientnet_b0"), (image,)
        yield "bert_base_s128", BertModel(BertConfig()), (torch.ones(1, 128, dtype=torch.long, device="cuda"),)
        yield "gpt2_s64", GPT2LMHeadModel(GPT2Config(use_cache=False)), (torch.ones(1, 64, dtype=torch.long, device="cuda"),)

    def median_ms(call):
        times = []
        for _ in range(60):
            torch.cuda.synchronize()
            start = time.perf_counter()
            call()
            torch.cuda.synchronize()
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times[10:])

    results = {}
    for name, model, inputs in models():
        model = model.cuda().eval()
        row = results[name] = {}
        with torch.no_grad():
            try:
                row["eager"] = median_ms(lambda: model(*inputs))
                graph = torch.cuda.CUDAGraph()
                stream = torch.cuda.Stream()
                with torch.cuda.stream(stream):
                    for _ in range(3):
                        model(*inputs)
                torch.cuda.synchronize()
                with torch.cuda.graph(graph):
                    model(*inputs)
                row["cuda_graph"] = median_ms(graph.replay)
            except Exception as error:  # a peer that fails is a row of the table, not the end of the run
                row["error"] = str(error)[:200]
        say(f"torch {name}: {row}")
    size = 4096
    a, b = (torch.rand(size, size, device="cuda") for _ in range(2))
    results["cublas_f32_gflops"] = {str(n): 2 * n**3 / median_ms(lambda n=n: a[:n, :n].contiguous() @ b[:n, :n].contiguous()) / 1e6 for n in (1024, 2048, 4096)}
    big = torch.rand(1 << 29, device="cuda")
    other = torch.empty_like(big)
    results["copy_gbs"] = 2 * big.numel() * 4 / median_ms(lambda: other.copy_(big)) / 1e6
    return results


def table(report):
    lines = [f"# Devices: {', '.join(d['name'] for d in report['devices'])}", "",
             f"{report['date']}, {report['processor']}; `perf/gpu.py {report['command']}`.", ""]
    if report["models"]:
        lines += ["| model | api | ms | torch CUDA graph, ms | off by | compile, s |", "|---|---|---|---|---|---|"]
        for r in report["models"]:
            peer = report["peers"].get(r["model"], {}).get("cuda_graph")
            lines.append(f"| {r['model']} | {r['api']} | {r.get('median_ms', float('nan')):.3f} | {f'{peer:.3f}' if peer else ''} | "
                         f"{r.get('difference', r.get('error', ''))!s:.40} | {r['compile_s']:.1f} |")
        lines.append("")
    if report["launches"]:
        lines += launch_table(report["launches"])
    if report["kernels"]:
        lines += ["| kernel | api | us | GFLOP/s | GB/s | schedule |", "|---|---|---|---|---|---|"]
        for r in report["kernels"]:
            if "error" in r:
                lines.append(f"| {r['op']} {r['shape']} | {r['api']} | | | | {r['error'].splitlines()[0][:80]} |")
            else:
                lines.append(f"| {r['op']} {r['shape']} | {r['api']} | {r['median_ms'] * 1e3:.1f} | {r['gflops']:.0f} | {r['bandwidth_gbs']:.0f} | {r['schedule']} |")
        lines.append("")
    if report["peers"]:
        lines += ["```", json.dumps(report["peers"], indent=1), "```", ""]
    return lines


def run(arguments):
    with tempfile.TemporaryDirectory() as scratch:
        kit = Kit(arguments.kit.resolve(), pathlib.Path(scratch))
        listed = kit.json("targets")
        say(json.dumps(listed.get("devices", listed), indent=1))
        report = {"command": " ".join(sys.argv[1:]), "date": time.strftime("%Y-%m-%d"), "processor": processor(),
                  "devices": [d for d in listed.get("devices", []) if d.get("kind") != "cpu"] or listed.get("devices", []),
                  "kernels": [], "models": [], "peers": {}, "launches": []}
        kernels = [k for k in read_shapes(SHAPES / "gpu.txt") if re.search(arguments.kernels, str(k))] if arguments.kernels else []
        filled = fill_models(kit, arguments.models)
        report["launches"] = measure_launches(kit)
        for api in arguments.apis:
            report["models"] += measure_models(kit, api, arguments.device, filled, arguments.seconds)
            report["kernels"] += measure_kernels(kit, api, arguments.device, kernels, arguments.seconds)
        if arguments.peers:
            report["peers"] = measure_peers()
        name = re.sub(r"[^a-z0-9]+", "-", report["devices"][0]["name"].lower()).strip("-") if report["devices"] else "none"
        lines = table(report)
        write_results(arguments.output or RESULTS / f"gpu-{name}", report, lines)
        say("\n".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="step", required=True)
    for name, function in (("pack", pack), ("run", run)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--kit", type=pathlib.Path, default=ROOT / "build/gpu-kit")
    command.add_argument("--apis", nargs="+", choices=APIS, default=APIS)
    command.add_argument("--device", default="", help="index or part of the name")
    command.add_argument("--models", nargs="*", choices=MODELS, default=MODELS)
    command.add_argument("--kernels", default=".", help="regular expression over 'operator shape'; empty: none")
    command.add_argument("--seconds", type=float, default=0.3)
    command.add_argument("--peers", action="store_true")
    command.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    arguments.function(arguments)


if __name__ == "__main__":
    main()
