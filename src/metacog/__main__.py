"""`python -m metacog`: what `accelerate launch -m metacog` starts in each process."""

from metacog.cli.main import app

if __name__ == "__main__":
    app(prog_name="metacog")
