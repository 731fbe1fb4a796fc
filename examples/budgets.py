"""Load the bundled model, read a prompt, answer under three budgets in one batch, save.

python examples/budgets.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from metacog import load

QUESTION = "How many 1 bits are there in the binary representation of the number 300?"


def main() -> None:
    """Print what the layer reads, and what each budget leads to."""
    model = load("nano")
    (reading,) = model.read([QUESTION])
    print(f"plan {reading.chosen_plan}, budget {reading.budget}, sure {reading.confidence:.0%}")
    for reply in model.generate([QUESTION] * 3, budget=["auto", 16, 0]):
        spent = reply.generation.budget
        print(f"{spent.used} of {spent.enforced} tokens, {spent.close_reason}: {reply.answer}")
    with TemporaryDirectory() as place:
        model.save(Path(place) / "mine")
        print(load(Path(place) / "mine").generate([QUESTION])[0].answer)


if __name__ == "__main__":
    main()
