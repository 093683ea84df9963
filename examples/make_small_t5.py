"""Make a small T5 with random weights and a tokenizer of its own, from the texts of a jsonl file.

    python examples/make_small_t5.py train.jsonl FOLDER

A stand-in where no pretrained T5 is at hand: it knows nothing before it is trained.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

rows = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines() if line.strip()]
texts = [text for row in rows for text in row["translation"].values()]
inner = Tokenizer(models.BPE(unk_token="<unk>"))
inner.normalizer = normalizers.NFC()
inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
special = ["<pad>", "</s>", "<unk>"]
inner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=4000, special_tokens=special, show_progress=False))
inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=256
)
transformers.logging.disable_progress_bar()
torch.manual_seed(0)
config = transformers.T5Config(
    vocab_size=len(tokenizer),
    d_model=192,
    d_kv=32,
    d_ff=512,
    num_layers=3,
    num_heads=6,
    pad_token_id=0,
    eos_token_id=1,
    decoder_start_token_id=0,
)
model = transformers.T5ForConditionalGeneration(config)
model.save_pretrained(sys.argv[2])
tokenizer.save_pretrained(sys.argv[2])
print(f"{sys.argv[2]}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer):,} words and parts")
