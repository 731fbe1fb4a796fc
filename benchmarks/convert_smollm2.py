"""Write SmolLM2-135M-Instruct as a plain directory of safetensors, from a GGUF file.

    python -m benchmarks.convert_smollm2 PACKAGE OUT

PACKAGE is a directory that holds one GGUF file, somewhere below; OUT must not exist. The weights are
those of the file, dequantised and kept in fp32, so that what loads OUT loads them as any other base.
The tokenizer stays as the file has it, chat template included, but pads on the left.
"""

import argparse
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from metacog.telemetry.files import new_directory


def gguf_below(directory: Path) -> Path:
    """Return the one GGUF file below a directory."""
    found = sorted(directory.rglob("*.gguf"))
    if len(found) != 1:
        raise SystemExit(
            f"Wanted one GGUF file below {directory}, found {len(found)}. Name another directory."
        )
    return found[0]


def plain(loaded: PreTrainedModel) -> PreTrainedModel:
    """Return a model with the same weights whose configuration names no quantisation."""
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    config = type(loaded.config).from_dict(settings)
    fresh = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.tie_weights()
    fresh.generation_config = loaded.generation_config
    return fresh


def main() -> None:
    """Convert the file that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    source = gguf_below(arguments.package)
    file = source.name
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=file, padding_side="left")
    model = plain(AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=file))
    with new_directory(arguments.out) as filling:
        model.save_pretrained(filling)
        tokenizer.save_pretrained(filling)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters in {arguments.out}")


if __name__ == "__main__":
    main()
