"""Tiny random bases, made from their configs: structure without weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..data.splits import demo_files

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
PAD, UNK, BOS, EOS, MASK = range(5)


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Train a small BPE tokenizer on the demo's own sentences."""
    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    text = Path(demo_files("sentiment")["train"]).read_text(encoding="utf-8").splitlines()
    inner.train_from_iterator(text, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False))
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    pad, unk, bos, eos, mask = SPECIAL
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=pad,
        unk_token=unk,
        bos_token=bos,
        eos_token=eos,
        cls_token=bos,
        sep_token=eos,
        mask_token=mask,
        model_max_length=64,
    )


_TOKENS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "vocab_size": 300}
_SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
    **_TOKENS,
}

CONFIGS = {
    "bert": lambda: transformers.BertConfig(**_SIZE),
    "roberta": lambda: transformers.RobertaConfig(**_SIZE),
    "distilbert": lambda: transformers.DistilBertConfig(
        dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=80, **_TOKENS
    ),
    "modernbert": lambda: transformers.ModernBertConfig(**_SIZE, cls_token_id=BOS, sep_token_id=EOS),
    "deberta-v2": lambda: transformers.DebertaV2Config(
        **_SIZE, relative_attention=True, position_buckets=8, pos_att_type=["p2c", "c2p"]
    ),
    "electra": lambda: transformers.ElectraConfig(**_SIZE, embedding_size=32),
    "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=3, n_head=4, n_positions=80, **_TOKENS),
    "llama": lambda: transformers.LlamaConfig(**_SIZE, num_key_value_heads=2),
    "qwen2": lambda: transformers.Qwen2Config(**_SIZE, num_key_value_heads=2),
    "t5": lambda: transformers.T5Config(
        d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4, decoder_start_token_id=PAD, **_TOKENS
    ),
    "bart": lambda: transformers.BartConfig(
        d_model=32,
        encoder_layers=3,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=80,
        decoder_start_token_id=EOS,
        forced_eos_token_id=EOS,
        **_TOKENS,
    ),
}


HEADS = {
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "fill-mask": "AutoModelForMaskedLM",
}
"""Which head a pretrained checkpoint has, by task."""


def make(
    family: str, folder: Path, *, seed: int = 0, head: str = "AutoModel", wide: bool = True, **config: Any
) -> Path:
    """Save a random base of a family, with its tokenizer, into `folder`; with `head`, a language model's too.

    With `wide`, its weights are ten times transformers' own, so that texts differ.
    """
    torch.manual_seed(seed)
    settings = CONFIGS[family]()
    for key, value in config.items():
        setattr(settings, key, value)
    model = getattr(transformers, head).from_config(settings)
    for name, parameter in model.named_parameters():
        if not wide:
            break
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.05)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
