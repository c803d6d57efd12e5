"""Other people's files in; `synth` makes markets."""
