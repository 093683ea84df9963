"""The strategy fulfils adapterkit's contract."""

from adapterkit.testing import contract

TestLoRAFA = contract("lora-fa", families=["bert", "gpt2"])
