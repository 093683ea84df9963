"""Load a LoRA adapter's folder with PEFT.

python examples/load_with_peft.py FOLDER BASE
"""

from __future__ import annotations

import sys

import transformers
from peft import PeftModel

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
tokenizer = transformers.AutoTokenizer.from_pretrained(sys.argv[2])
model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[2], num_labels=2)
model = PeftModel.from_pretrained(model, sys.argv[1]).eval()
logits = model(**tokenizer("I'd stay here again tomorrow.", return_tensors="pt")).logits
print(type(model).__name__, [f"{share:.3f}" for share in logits.softmax(-1)[0].tolist()])
