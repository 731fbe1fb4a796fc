"""Tags, rendering, segments and answers: the only package that knows the chat template."""
