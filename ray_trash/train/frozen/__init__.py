"""The activations of the frozen stages: computed once, kept on disk, fed to what is trained."""
